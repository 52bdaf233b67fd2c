use proptest::prelude::*;

use super::*;

/// Numbers in 0..1 that repeat from run to run (splitmix64).
fn uniform(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    })
}

/// Share of later lengths that the learned percentile covers, after `warm` of them.
fn covered(lengths: impl Iterator<Item = u64>, warm: usize, then: usize) -> f64 {
    let (mut learned, mut within) = (Lengths::default(), 0);
    for (at, length) in lengths.take(warm + then).enumerate() {
        within += usize::from(at >= warm && length <= learned.tokens(None));
        learned = Lengths::unpack(learned.on_sample(length).pack());
    }
    within as f64 / then as f64
}

#[test]
fn nine_of_ten_answers_are_within_the_percentile_whatever_their_shape() {
    let log_normal = |seed| {
        let mut draws = uniform(seed);
        std::iter::repeat_with(move || {
            let (one, two) = (draws.next().unwrap(), draws.next().unwrap());
            let normal = (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos();
            (200.0 * normal.exp()) as u64 + 1
        })
    };
    let even = |seed| uniform(seed).map(|draw| (draw * 4000.0) as u64 + 1);
    let of_two = |seed| uniform(seed).map(|draw| if draw < 0.7 { 20 } else { 3000 + (draw * 999.0) as u64 });
    for seed in 0..5 {
        for share in [
            covered(log_normal(seed), 300, 5000),
            covered(even(seed), 300, 5000),
            covered(of_two(seed), 300, 5000),
        ] {
            assert!((0.87..0.93).contains(&share), "seed {seed}: {share}");
        }
    }
}

#[test]
fn a_change_of_habits_is_followed_both_ways() {
    let short = uniform(1).map(|draw| (draw * 100.0) as u64 + 1);
    let long = uniform(2).map(|draw| (draw * 6000.0) as u64 + 1);
    assert!(covered(short.take(400).chain(long), 500, 2000) > 0.85);
    let learned =
        uniform(3).take(400).fold(Lengths::default(), |l, draw| l.on_sample((draw * 6000.0) as u64));
    let learned = uniform(4).take(1200).fold(learned, |l, draw| l.on_sample((draw * 100.0) as u64));
    assert!((70..130).contains(&learned.tokens(None)), "{learned:?}");
}

#[test]
fn a_few_answers_are_not_believed_and_the_callers_bound_always_is() {
    let nearly = (1..SAMPLES_MIN).fold(Lengths::default(), |lengths, _| lengths.on_sample(5000));
    assert_eq!(nearly.tokens(None), OUTPUT_DEFAULT);
    let learned = nearly.on_sample(5000);
    assert!((3000..7000).contains(&learned.tokens(None)), "{learned:?}");
    assert_eq!(learned.tokens(Some(64)), 64);
    assert_eq!(nearly.tokens(Some(64)), 64);
}

#[test]
fn nothing_learned_is_four_bytes_a_token() {
    assert_eq!(Density::default().tokens(401, Qos::Gold), 101);
    assert_eq!(Density::default().on_sample(SAMPLE_BYTES_MIN - 1, 60), Density::default());
    assert_ne!(Density::default().on_sample(SAMPLE_BYTES_MIN, 60), Density::default());
}

#[test]
fn the_mean_settles_where_the_samples_are_and_better_qualities_reserve_more() {
    let samples = uniform(7).take(2000).map(|draw| 400 + (draw * 200.0) as u64);
    let learned = samples.fold(Density::default(), |density, tokens| density.on_sample(1000, tokens));
    let [bronze, silver, gold] =
        [Qos::Bronze, Qos::Silver, Qos::Gold].map(|qos| learned.tokens(1_000_000, qos) / 1000);
    // Evenly spread over 400 to 600: mean 500, standard deviation 200 / sqrt(12) = 58.
    assert!((500..560).contains(&bronze), "{bronze}");
    assert!((535..590).contains(&silver), "{silver}");
    assert!((580..650).contains(&gold), "{gold}");
}

#[test]
fn an_estimate_costs_both_kinds_at_their_prices() {
    let price = Price {
        input: Picodollars(3),
        output: Picodollars(10),
        cached_input: Picodollars(1),
        ..Price::default()
    };
    let estimate = Estimate::new(100, 20, &price);
    assert_eq!((estimate.tokens(), estimate.picodollars), (120, Picodollars(500)));
    assert_eq!(Estimate::new(u64::MAX, u64::MAX, &price).picodollars, Picodollars(u64::MAX));
}

#[test]
fn an_error_is_a_share_of_what_was_predicted() {
    assert_eq!(error_permille(100, 120), 200);
    assert_eq!(error_permille(100, 80), 200);
    assert_eq!((error_permille(0, 0), error_permille(0, 7)), (0, 1000));
    assert_eq!(error_permille(1, u64::MAX), u64::MAX);
}

proptest! {
    #[test]
    fn words_keep_what_was_learned_and_nothing_sent_can_spoil_it(
        samples in prop::collection::vec((any::<u64>(), any::<u64>()), 0..200),
    ) {
        let (mut density, mut lengths) = (Density::default(), Lengths::default());
        for (bytes, tokens) in samples {
            density = density.on_sample(bytes, tokens);
            lengths = lengths.on_sample(tokens);
            prop_assert_eq!(Density::unpack(density.pack()), density);
            prop_assert_eq!(Lengths::unpack(lengths.pack()), lengths);
            prop_assert!(density.mean.is_finite() && density.variance >= 0.0);
            prop_assert!(lengths.percentile.is_finite() && lengths.tokens(None) > 0);
        }
        prop_assert!(density.tokens(1 << 20, Qos::Gold) <= 24 << 20);
    }
}

#[test]
fn what_is_likely_has_no_guard_band_and_what_is_reserved_has() {
    let learned = Density::default().on_sample(400, 100);
    let reserved = [Qos::Bronze, Qos::Silver, Qos::Gold].map(|qos| learned.tokens(400, qos));
    assert_eq!((learned.likely(400), reserved), (100, [113, 125, 150]));
    assert_eq!(Density::default().likely(10), 3, "four bytes a token where nothing is learned");
}

#[test]
fn an_upstreams_own_estimate_counts_until_a_prompt_was_counted_and_its_variance_is_the_band() {
    let told = Density::default().on_estimate(1000, 250, 400.0);
    assert_eq!(told.likely(1000), 250);
    // Twenty tokens are one deviation.
    let band = |density: Density| density.tokens(1000, Qos::Gold) - density.likely(1000);
    let wider = Density::default().on_estimate(1000, 250, 1600.0);
    assert!(band(told) > 0 && band(wider).abs_diff(2 * band(told)) <= 1, "{} {}", band(told), band(wider));
    let counted = Density::default().on_sample(1000, 500);
    assert_eq!(counted.on_estimate(1000, 1, 0.0), counted);
    assert_eq!(Density::default().on_estimate(1000, 250, f64::INFINITY).likely(1000), 250);
}

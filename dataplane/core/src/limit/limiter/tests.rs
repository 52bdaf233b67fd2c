use super::*;

const SETTINGS: Settings =
    Settings { kind: Concurrency::Gradient, requests_max: 1000, tokens_max: None, prior: 20 };

fn after(ms: u64) -> Moment {
    Moment(0) + Duration::from_millis(ms)
}

fn sample(ms: u64, in_flight: u32, bound: Option<Axis>) -> Sample {
    Sample {
        dispatched_at: after(ms),
        now: after(ms + 100),
        ttft: Some(Duration::from_millis(100)),
        prompt_tokens_uncached: 500,
        requests_in_flight: in_flight,
        tokens_in_flight: u64::from(in_flight) * 1000,
        bound,
    }
}

fn loss(ms: u64, what: Axis) -> Loss {
    let (requests_in_flight, tokens_in_flight) = (20, 20_000);
    Loss { dispatched_at: after(ms), now: after(ms + 10), what, requests_in_flight, tokens_in_flight }
}

fn limiter(kind: Concurrency) -> Limiter {
    Limiter::new(Settings { kind, ..SETTINGS }, after(0))
}

/// A hundred answers a second at ease.
fn at_ease(limiter: &mut Limiter, from_ms: u64, seconds: u64, bound: Option<Axis>) {
    for i in 0..seconds * 100 {
        let in_flight = limiter.learned().requests;
        limiter.on_sample(sample(from_ms + i * 10, in_flight, bound));
    }
}

#[test]
fn a_limit_grows_while_somebody_waits_for_it_and_not_otherwise() {
    for kind in [Concurrency::Aimd, Concurrency::Gradient] {
        let mut free = limiter(kind);
        at_ease(&mut free, 0, 10, None);
        assert!(free.learned().requests <= 20, "{kind:?}");
        let mut bound = limiter(kind);
        at_ease(&mut bound, 0, 10, Some(Axis::Requests));
        assert!(bound.learned().requests > 50, "{kind:?}: {:?}", bound.learned());
        assert_eq!(bound.learned().tokens, u64::MAX);
    }
}

#[test]
fn a_call_that_somebody_waits_counts_as_a_sample_that_says_so() {
    let mut limiter = limiter(Concurrency::Aimd);
    for second in 0..10 {
        limiter.on_limit_bound(after(second * 1000), Axis::Requests);
        at_ease(&mut limiter, second * 1000, 1, None);
    }
    assert!(limiter.learned().requests > 50);
}

#[test]
fn losses_of_one_epoch_cut_once() {
    let mut limiter = limiter(Concurrency::Aimd);
    (0..50).for_each(|i| limiter.on_loss(loss(i, Axis::Requests)));
    assert_eq!(limiter.learned().requests, 18);
    limiter.on_loss(loss(1010, Axis::Requests));
    assert_eq!(limiter.learned().requests, 16);
    // Sent before the second cut, though told long after it.
    limiter.on_loss(Loss { now: after(60_000), ..loss(1015, Axis::Requests) });
    assert_eq!(limiter.learned().requests, 16);
}

#[test]
fn a_loss_cuts_the_limit_it_names() {
    for (what, requests, tokens) in
        [(Axis::Requests, 18, u64::MAX), (Axis::Tokens, 20, 18_000), (Axis::Both, 18, 18_000)]
    {
        let mut limiter = limiter(Concurrency::Aimd);
        limiter.on_sample(sample(0, 20, None));
        limiter.on_loss(loss(1000, what));
        assert_eq!(limiter.learned(), Limits { requests, tokens }, "{what:?}");
    }
}

#[test]
fn a_cut_starts_from_what_was_in_flight_and_not_from_a_limit_nobody_reached() {
    let mut limiter = limiter(Concurrency::Aimd);
    limiter.on_loss(Loss { requests_in_flight: 10, ..loss(0, Axis::Requests) });
    assert_eq!(limiter.learned().requests, 9);
}

#[test]
fn a_window_with_a_loss_does_not_grow() {
    let mut limiter = limiter(Concurrency::Aimd);
    limiter.on_loss(loss(0, Axis::Requests));
    for i in 0..300 {
        limiter.on_sample(sample(i * 10, 18, Some(Axis::Requests)));
        // Within the epoch of the cut: no news, yet no reason to grow.
        limiter.on_loss(Loss { dispatched_at: after(0), ..loss(i * 10, Axis::Requests) });
    }
    assert_eq!(limiter.learned().requests, 18);
}

#[test]
fn the_limit_never_falls_below_one_nor_rises_above_the_maximum() {
    for kind in [Concurrency::Aimd, Concurrency::Gradient] {
        let mut limiter = limiter(kind);
        (0..100).for_each(|i| limiter.on_loss(loss(i * 2000, Axis::Both)));
        assert_eq!(limiter.limits(after(0)).requests, 1);
        at_ease(&mut limiter, 300_000, 120, Some(Axis::Requests));
        assert_eq!(limiter.learned().requests, 1000);
    }
}

#[test]
fn answers_without_a_stream_let_a_limit_grow_too() {
    let mut limiter = limiter(Concurrency::Aimd);
    for i in 0..500 {
        limiter.on_sample(Sample { ttft: None, ..sample(i * 10, 20, Some(Axis::Requests)) });
    }
    assert!(limiter.learned().requests > 25);
}

#[test]
fn a_fixed_limit_stays_whatever_happens_to_it() {
    let mut limiter = limiter(Concurrency::Fixed);
    at_ease(&mut limiter, 0, 10, Some(Axis::Requests));
    (0..100).for_each(|i| limiter.on_loss(loss(20_000 + i * 2000, Axis::Both)));
    limiter.on_tick(after(1_000_000));
    assert_eq!(limiter.limits(after(1_000_000)), Limits { requests: 1000, tokens: u64::MAX });
}

#[test]
fn ceilings_and_the_agent_lower_every_kind_and_only_for_their_time() {
    for kind in [Concurrency::Fixed, Concurrency::Aimd, Concurrency::Gradient] {
        let mut limiter = limiter(kind);
        let learned = limiter.learned();
        limiter.on_ceiling(Ceiling { requests: Some(0), tokens: Some(9), until: after(500) }, after(0));
        assert_eq!(limiter.limits(after(499)), Limits { requests: 0, tokens: 9 });
        assert_eq!(limiter.next_change(after(0)), Some(after(500)));
        assert_eq!(limiter.limits(after(500)), learned);
        limiter.on_agent(AgentStatus::Pause { since: after(600) }, Some(3));
        assert_eq!(limiter.limits(after(5599)).requests, 3);
        assert_eq!(limiter.next_change(after(600)), Some(after(5600)));
        assert_eq!(limiter.limits(after(5600)).requests, 0);
        limiter.on_agent(AgentStatus::Ready, None);
        assert_eq!((limiter.limits(after(5600)), limiter.learned()), (learned, learned));
    }
}

#[test]
fn a_changed_setting_keeps_what_was_learned_within_its_maximum() {
    let mut limiter = limiter(Concurrency::Gradient);
    at_ease(&mut limiter, 0, 20, Some(Axis::Requests));
    let learned = limiter.learned().requests;
    assert!(learned > 100);
    limiter.resize(Settings { requests_max: 2000, prior: 5, ..SETTINGS }, after(20_000));
    assert_eq!(limiter.learned().requests, learned);
    limiter.resize(Settings { kind: Concurrency::Aimd, ..SETTINGS }, after(20_000));
    assert_eq!(limiter.learned().requests, learned);
    limiter.resize(Settings { requests_max: 50, tokens_max: Some(700), ..SETTINGS }, after(20_000));
    assert_eq!(limiter.learned(), Limits { requests: 50, tokens: 700 });
}

#[test]
fn an_idle_limit_returns_to_its_prior_by_halves_but_not_below_what_is_used() {
    let mut grown = limiter(Concurrency::Aimd);
    at_ease(&mut grown, 0, 20, Some(Axis::Requests));
    let learned = f64::from(grown.learned().requests);
    let mut idle = grown.clone();
    idle.on_tick(after(20_000));
    assert_eq!(idle.learned(), grown.learned());
    idle.window = Window::new(after(20_000));
    (20..=80).for_each(|second| idle.on_tick(after(second * 1000)));
    assert_eq!(idle.learned(), grown.learned(), "a minute is not idle yet");
    (81..=141).for_each(|second| idle.on_tick(after(second * 1000)));
    let half = 20.0 + (learned - 20.0) / 2.0;
    assert!((f64::from(idle.learned().requests) - half).abs() < 0.02 * half, "{:?}", idle.learned());
    (142..3000).for_each(|second| {
        idle.on_sample(sample(second * 1000, 40, None));
        idle.on_tick(after(second * 1000));
    });
    assert!((36..=42).contains(&idle.learned().requests), "{:?}", idle.learned());
}

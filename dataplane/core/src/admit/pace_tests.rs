use proptest::prelude::*;

use super::*;

const START: Moment = Moment(1_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_minutes_worth_passes_at_once_and_the_next_token_waits_for_its_own_time() {
    let spent = Pace::default().on_request(START, 600, 600).unwrap();
    assert_eq!(spent.on_request(START, 600, 1), Err(SECOND / 10));
    assert_eq!(spent.on_request(START, 600, 600), Err(SECOND * 60));
    assert!(spent.on_request(START + SECOND, 600, 10).is_ok());
    assert_eq!(spent.on_request(START + SECOND, 600, 11), Err(SECOND / 10));
}

#[test]
fn an_idle_hour_saves_a_minute() {
    let later = START + SECOND * 3600;
    let spent = Pace(START).on_request(later, 600, 600).unwrap();
    assert!(spent.on_request(later, 600, 1).is_err());
}

#[test]
fn one_that_is_larger_than_a_minute_passes_where_nothing_is_owed_and_is_paid_off() {
    let spent = Pace::default().on_request(START, 60, 120).unwrap();
    assert_eq!(spent.on_request(START, 60, 120), Err(SECOND * 120));
    assert_eq!(spent.on_request(START + SECOND * 60, 60, 1), Err(SECOND));
    assert!(spent.on_request(START + SECOND * 120, 60, 120).is_ok());
}

#[test]
fn a_rate_of_zero_lets_nothing_pass_and_the_largest_loses_no_digit() {
    assert_eq!(Pace::default().on_request(START, 0, 0), Err(NEVER));
    assert!(Pace::default().on_request(START, u64::MAX, u64::MAX).is_ok());
    assert_eq!(Pace(START).on_end(0, 5, 0), Pace(START));
    assert!(Pace::default().on_request(START, 1, u64::MAX).is_ok(), "saturates");
}

#[test]
fn more_used_than_reserved_is_owed_and_less_comes_back() {
    let reserved = Pace::default().on_request(START, 60, 30).unwrap();
    assert_eq!(reserved.on_end(60, 30, 10), Pace(START + SECOND * 10));
    assert_eq!(reserved.on_end(60, 30, 90), Pace(START + SECOND * 90));
}

#[test]
fn a_new_day_starts_from_nothing_and_a_late_clock_does_not_bring_the_old_one_back() {
    let first = Era::default().on_day(20_000);
    let second = first.on_day(20_007);
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_eq!(second.on_day(20_006), second);
    let spent = Spent::default().on_day(first.mark()).on_request(Picodollars(10), Picodollars(10)).unwrap();
    assert_eq!(spent.on_day(first.mark()).on_request(Picodollars(10), Picodollars(1)), None);
    assert!(spent.on_day(second.mark()).on_request(Picodollars(10), Picodollars(10)).is_some());
}

#[test]
fn a_day_ends_at_the_end_of_its_range() {
    let spent = Spent::default().on_end(Picodollars(0), Picodollars(u64::MAX));
    assert_eq!(spent.picodollars, SPENT_MAX);
    assert_eq!(spent.on_request(Picodollars(u64::MAX), Picodollars(1)), None);
}

proptest! {
    #[test]
    fn words_keep_what_they_are_given(day: u32, generation: u32, mark in 0..4u8, money in 0..=SPENT_MAX.0) {
        let era = Era { day, generation };
        prop_assert_eq!(Era::unpack(era.pack()), era);
        let spent = Spent { mark, picodollars: Picodollars(money) };
        prop_assert_eq!(Spent::unpack(spent.pack()), spent);
    }

    #[test]
    fn a_request_that_used_what_it_reserved_changes_nothing_and_one_that_used_nothing_is_undone(
        rate in 1..1_000_000u64, tokens in 0..10_000u64, ago in 0..100u64,
    ) {
        let before = Pace(START + SECOND);
        let now = Moment(START.0 - ago);
        if let Ok(after) = before.on_request(now, rate, tokens) {
            prop_assert_eq!(after.on_end(rate, tokens, tokens), after);
            prop_assert_eq!(after.on_end(rate, tokens, 0), before);
        }
    }

    /// Against a record of what passed: any span of it, cut at any two requests.
    #[test]
    fn no_span_carries_more_than_a_minute_and_its_own_length(
        rate in 1..5_000u64,
        asks in prop::collection::vec((0..20_000_000_000u64, 1..2_000u64), 1..80),
    ) {
        let (mut pace, mut now, mut passed) = (Pace::default(), START, Vec::new());
        for (gap, tokens) in asks {
            now = now + Duration::from_nanos(gap);
            let tokens = tokens.min(rate);
            match pace.on_request(now, rate, tokens) {
                Ok(next) => {
                    pace = next;
                    passed.push((now, tokens));
                }
                Err(wait) => {
                    prop_assert!(pace.on_request(now + wait, rate, tokens).is_ok(), "the wait is enough");
                    let early = Moment((now + wait).0 - 1);
                    prop_assert!(pace.on_request(early, rate, tokens).is_err(), "and no more than that");
                }
            }
        }
        for from in 0..passed.len() {
            for to in from..passed.len() {
                let sum: u64 = passed[from..=to].iter().map(|(_, tokens)| tokens).sum();
                let span = passed[to].0.since(passed[from].0).as_secs_f64();
                prop_assert!(sum as f64 <= rate as f64 * (1.0 + span / 60.0) + 1e-6);
            }
        }
    }
}

#[test]
fn what_is_left_is_what_passes_and_all_of_it_once_nothing_is_owed() {
    let now = Moment(1_000_000_000);
    assert_eq!(Pace::default().left(now, 600), (600, Duration::ZERO));
    let pace = Pace::default().on_request(now, 600, 450).unwrap();
    assert_eq!(pace.left(now, 600), (150, Duration::from_secs(45)));
    assert!(pace.on_request(now, 600, 150).is_ok() && pace.on_request(now, 600, 151).is_err());
    assert_eq!(pace.left(now + Duration::from_secs(45), 600), (600, Duration::ZERO));
    assert_eq!(Pace::default().left(now, 0), (0, Duration::ZERO));
    assert_eq!(Pace::default().left(now, u64::MAX).0, u64::MAX);
}

use std::time::Duration;

use arrayvec::ArrayVec;
use proto_core::model::{Fallback, Timeout};

use super::*;
use crate::table::RouteId;

const TIMEOUT: Timeout = Timeout {
    first_token: Duration::from_millis(100),
    idle: Duration::from_millis(50),
    total: Duration::from_millis(250),
};

const TERMS: Terms = Terms {
    timeout: TIMEOUT,
    fallback: Fallback::OnRefusal,
    attempts_max: 3,
    streamed: true,
    is_callers_deadline: false,
    escalate_after: None,
};

fn exchange(offers: u32, terms: Terms) -> Exchange {
    let offers: ArrayVec<_, 16> = (0..offers).map(OfferId).collect();
    Exchange::new(Plan { route: RouteId(0), offers, explores: false }, terms, at(0))
}

fn at(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn start(slot: Slot, offer: u32) -> Action {
    Action::Start { slot, offer: OfferId(offer) }
}

const CONNECT: Fault = Fault::upstream(Kind::Connect, Retry::Elsewhere);
const RESET: Fault = Fault::upstream(Kind::Reset, Retry::ElsewhereAtCost);
const NO_PERMIT: Fault = Fault::proxy(Kind::NoPermit);
use Slot::{First, Second};

#[test]
fn starts_the_first_waits_and_relays_its_answer() {
    let mut exchange = exchange(2, TERMS);
    assert_eq!(exchange.poll_action(at(0)), start(First, 0));
    assert_eq!(exchange.poll_action(at(0)), Action::Wait { until: at(100) });
    exchange.on_ready(First);
    assert_eq!(exchange.poll_action(at(10)), Action::Relay { slot: First });
}

#[test]
fn tries_elsewhere_once_then_refuses() {
    let mut exchange = exchange(2, TERMS);
    exchange.poll_action(at(0));
    assert!(exchange.needs_budget(CONNECT));
    exchange.on_fault(First, CONNECT, true);
    assert_eq!(exchange.poll_action(at(1)), start(First, 1));
    assert!(!exchange.needs_budget(RESET), "the plan is at its end");
    exchange.on_fault(First, RESET, false);
    assert_eq!(exchange.poll_action(at(2)), Action::Answer(RESET));
}

#[test]
fn stops_where_the_budget_gives_nothing() {
    let mut exchange = exchange(3, TERMS);
    exchange.poll_action(at(0));
    exchange.on_fault(First, CONNECT, false);
    assert_eq!(exchange.poll_action(at(1)), Action::Answer(CONNECT));
}

#[test]
fn tries_no_more_than_the_route_allows() {
    let mut exchange = exchange(9, Terms { attempts_max: 2, ..TERMS });
    exchange.poll_action(at(0));
    exchange.on_fault(First, CONNECT, true);
    assert_eq!(exchange.poll_action(at(1)), start(First, 1));
    exchange.on_fault(First, CONNECT, true);
    assert_eq!(exchange.poll_action(at(1)), Action::Answer(CONNECT));
}

#[test]
fn a_full_upstream_costs_no_attempt_and_does_not_hide_what_another_said() {
    let mut exchange = exchange(4, Terms { attempts_max: 2, ..TERMS });
    for offer in 0..3 {
        assert_eq!(exchange.poll_action(at(0)), start(First, offer));
        match offer {
            1 => exchange.on_fault(First, CONNECT, true),
            _ => exchange.on_refused(First, NO_PERMIT),
        }
    }
    assert_eq!(exchange.poll_action(at(0)), start(First, 3));
    exchange.on_refused(First, NO_PERMIT);
    assert_eq!(exchange.poll_action(at(0)), Action::Queue { slot: First, offer: OfferId(0) });
    exchange.on_refused(First, Fault::proxy(Kind::TooLate { wait_s: 3 }));
    assert_eq!(exchange.poll_action(at(0)), Action::Answer(CONNECT), "it waits in one queue, once");
}

#[test]
fn a_first_token_is_waited_for_from_the_dispatch_and_not_from_the_queue() {
    let mut exchange = exchange(1, TERMS);
    exchange.poll_action(at(0));
    exchange.on_refused(First, NO_PERMIT);
    assert_eq!(exchange.poll_action(at(0)), Action::Queue { slot: First, offer: OfferId(0) });
    assert_eq!(exchange.poll_action(at(0)), Action::Wait { until: at(250) });
    assert_eq!(exchange.on_time(at(140)), None, "waiting is no fault of the upstream");
    exchange.on_dispatched(First, at(140));
    assert_eq!(exchange.poll_action(at(140)), Action::Wait { until: at(240) });
    let (_, fault) = exchange.on_time(at(240)).unwrap();
    assert_eq!(fault.kind, Kind::FirstTokenTimeout);
}

#[test]
fn a_deadline_in_the_queue_says_nothing_about_the_upstream() {
    let mut exchange = exchange(1, TERMS);
    exchange.poll_action(at(0));
    exchange.on_refused(First, NO_PERMIT);
    exchange.poll_action(at(0));
    let (slot, fault) = exchange.on_time(at(250)).unwrap();
    assert_eq!((fault.kind, fault.side), (Kind::DeadlineExceeded, crate::fault::Side::Proxy));
    exchange.on_fault(slot, fault, false);
    assert_eq!(exchange.poll_action(at(250)), Action::Answer(fault));
}

#[test]
fn a_tripped_breaker_is_not_waited_for() {
    let mut exchange = exchange(1, TERMS);
    exchange.poll_action(at(0));
    let tripped = Fault::proxy(Kind::AllTripped);
    exchange.on_refused(First, tripped);
    assert_eq!(exchange.poll_action(at(0)), Action::Answer(tripped));
}

#[test]
fn work_that_may_have_been_done_is_not_done_again_unless_the_route_says_so() {
    let mut careful = exchange(2, TERMS);
    careful.poll_action(at(0));
    careful.on_fault(First, RESET, true);
    assert_eq!(careful.poll_action(at(0)), Action::Answer(RESET));
    let mut eager = exchange(2, Terms { fallback: Fallback::OnError, ..TERMS });
    eager.poll_action(at(0));
    eager.on_fault(First, RESET, true);
    assert_eq!(eager.poll_action(at(0)), start(First, 1));
}

#[test]
fn a_late_first_token_is_a_fault_of_the_attempt_and_the_total_of_the_exchange() {
    let terms = Terms { fallback: Fallback::OnError, ..TERMS };
    let mut exchange = exchange(5, terms);
    exchange.poll_action(at(0));
    assert_eq!(exchange.on_time(at(99)), None);
    let (slot, fault) = exchange.on_time(at(100)).unwrap();
    assert_eq!((slot, fault.kind), (First, Kind::FirstTokenTimeout));
    exchange.on_fault(slot, fault, true);
    assert_eq!(exchange.poll_action(at(200)), start(First, 1));
    assert_eq!(exchange.poll_action(at(200)), Action::Wait { until: at(250) }, "the total comes first");
    let (slot, fault) = exchange.on_time(at(250)).unwrap();
    assert_eq!(fault.kind, Kind::DeadlineExceeded);
    exchange.on_fault(slot, fault, true);
    assert_eq!(exchange.poll_action(at(250)), Action::Answer(fault), "and nothing starts after it");
}

#[test]
fn an_answer_without_a_stream_waits_for_the_total_only() {
    let mut exchange = exchange(1, Terms { streamed: false, ..TERMS });
    exchange.poll_action(at(0));
    assert_eq!(exchange.poll_action(at(0)), Action::Wait { until: at(250) });
    assert_eq!(exchange.on_time(at(249)), None);
}

fn escalating(offers: u32) -> Exchange {
    let mut exchange = exchange(offers, Terms { escalate_after: Some(Duration::from_millis(60)), ..TERMS });
    assert_eq!(exchange.poll_action(at(0)), start(First, 0));
    assert_eq!(exchange.poll_action(at(0)), Action::Wait { until: at(60) });
    assert_eq!(exchange.on_time(at(60)), None);
    exchange
}

#[test]
fn escalates_once_and_cancels_the_loser() {
    let mut exchange = escalating(3);
    assert!(exchange.wants_escalation());
    assert_eq!(exchange.poll_action(at(60)), start(Second, 1));
    assert_eq!(exchange.escalations(), 1);
    assert_eq!(exchange.poll_action(at(60)), Action::Wait { until: at(100) });
    exchange.on_ready(Second);
    assert_eq!(exchange.poll_action(at(70)), Action::Cancel { slot: First });
    assert_eq!(exchange.poll_action(at(70)), Action::Relay { slot: Second });
}

#[test]
fn a_racer_that_fails_leaves_the_race_to_the_other() {
    let mut exchange = escalating(3);
    exchange.poll_action(at(60));
    exchange.on_fault(First, CONNECT, true);
    assert_eq!(exchange.poll_action(at(70)), Action::Wait { until: at(160) });
    exchange.on_ready(Second);
    assert_eq!(exchange.poll_action(at(80)), Action::Relay { slot: Second });
}

#[test]
fn does_not_escalate_without_budget_or_without_another_candidate() {
    let mut poor = escalating(3);
    poor.on_escalation_refused();
    assert_eq!(poor.poll_action(at(60)), Action::Wait { until: at(100) });
    let mut alone = escalating(1);
    assert!(!alone.wants_escalation());
    assert_eq!(alone.poll_action(at(60)), Action::Wait { until: at(100) });
}

/// A linear congruential generator (Knuth, MMIX).
fn lot(random: &mut u64, below: u64) -> u64 {
    *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*random >> 33) % below
}

/// Every reachable state × input, walked at random: it always ends, never acts on an empty slot, never
/// answers while something runs, and never starts more than allowed.
#[test]
fn any_order_of_events_ends_in_one_answer() {
    let mut random = 1u64;
    let mut next = |below: u64| lot(&mut random, below);
    for round in 0..20_000 {
        let terms = Terms {
            fallback: [Fallback::OnRefusal, Fallback::OnError, Fallback::Never][next(3) as usize],
            attempts_max: next(4) as u8 + 1,
            streamed: next(2) == 0,
            escalate_after: (next(2) == 0).then(|| Duration::from_millis(next(120))),
            ..TERMS
        };
        let mut exchange = exchange(next(5) as u32 + 1, terms);
        let (mut now, mut running, mut started) = (0, [false; 2], 0);
        let ended = (0..200).any(|_| match exchange.poll_action(at(now)) {
            Action::Start { slot, .. } | Action::Queue { slot, .. } => {
                assert!(!running[slot as usize], "round {round}: two attempts in one slot");
                if next(4) == 0 {
                    exchange.on_refused(slot, NO_PERMIT);
                } else {
                    running[slot as usize] = true;
                    started += 1;
                    if next(2) == 0 {
                        exchange.on_dispatched(slot, at(now));
                    }
                }
                false
            }
            Action::Cancel { slot } => {
                assert!(std::mem::take(&mut running[slot as usize]), "round {round}: cancelled nothing");
                false
            }
            Action::Relay { slot } => {
                assert!(running[slot as usize] && !running[slot.other() as usize], "round {round}");
                true
            }
            Action::Answer(_) => {
                assert_eq!(running, [false; 2], "round {round}: answered while an attempt runs");
                true
            }
            Action::Wait { until } => {
                assert!(running.contains(&true), "round {round}: waits for nothing");
                let slot = if running[0] && (!running[1] || next(2) == 0) { First } else { Second };
                let fault = match next(4) {
                    0 => {
                        exchange.on_ready(slot);
                        return false;
                    }
                    1 => (slot, [CONNECT, RESET][next(2) as usize]),
                    _ => {
                        now = until.0 / 1_000_000;
                        match exchange.on_time(at(now)) {
                            Some(late) => late,
                            None => {
                                if exchange.wants_escalation() && next(2) == 0 {
                                    exchange.on_escalation_refused();
                                }
                                return false;
                            }
                        }
                    }
                };
                running[fault.0 as usize] = false;
                exchange.on_fault(fault.0, fault.1, next(3) > 0);
                false
            }
        });
        assert!(ended, "round {round} never ended");
        assert!(started <= terms.attempts_max, "round {round}: {started} attempts of {}", terms.attempts_max);
    }
}

//! Each decision on the path of a request by itself, and all of them in the order a request meets them.

use std::cell::Cell;
use std::hint::black_box;

use bytes::Bytes;
use dataplane_core::bill::{Usage, estimated_input};
use dataplane_core::breaker::Verdict;
use dataplane_core::dialect::openai::{BodyReader, StreamReader};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Head, Profile, Scanner};
use dataplane_core::dialect::splice;
use dataplane_core::exchange::{Action, Exchange, Terms};
use dataplane_core::route::{self, Plan, Wish};
use dataplane_core::table::Table;
use dataplane_state::tally::Operation;
use proto_core::units::{Moment, Permille, Picodollars};

use crate::admission;
use crate::fixture::{Fixture, MODEL_OF_TWO, chat_body, event};
use crate::frames;
use crate::waiting;

/// Once through a scenario.
pub type Step = Box<dyn FnMut()>;

/// Something on the path that is measured by itself.
pub struct Scenario {
    pub name: &'static str,
    /// What one step may take from the heap.
    pub allocations: u64,
    make: fn() -> Step,
}

impl Scenario {
    /// With its memory, warmed by one step.
    pub fn ready(&self) -> Step {
        let mut step = (self.make)();
        step();
        step
    }
}

/// Takes nothing from the heap.
const fn deciding(name: &'static str, make: fn() -> Step) -> Scenario {
    making(name, 0, make)
}

/// Has something to show for what it takes.
const fn making(name: &'static str, allocations: u64, make: fn() -> Step) -> Scenario {
    Scenario { name, allocations, make }
}

/// The scenario of that name.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().chain(RIVALS).find(|scenario| scenario.name == name)
}

pub const SCENARIOS: &[Scenario] = &[
    deciding("scan_chat_1400_bytes", scan),
    deciding("identify_find_plan_100_routes", plan),
    deciding("splice_model_and_usage", splice),
    deciding("read_answer_500_bytes", read_answer),
    deciding("stream_event", stream_event),
    deciding("snapshot_load", load),
    deciding("permit_and_back", permits),
    deciding("windows_and_permit_and_back", admission::windows_and_permit),
    deciding("budgets_and_back", admission::budgets),
    deciding("estimate_and_learn", admission::estimate_and_learn),
    deciding("queue_in_and_out_10000_tenants", waiting::turn_of_10_000),
    deciding("breaker_pass_and_success", breaker),
    deciding("retry_budget_earn", budget),
    deciding("tally_answer", tally),
    deciding("pass_on_binary_frame_4_kib", frames::pass_on),
    deciding("view_binary_frame_1_kib", frames::view_bin),
    making("write_binary_frame_1_kib", 2, frames::write_bin),
    // Flags, ids, type and content stay in the message; languages are a list.
    making("read_binary_frame_1_kib", 1, frames::read_bin),
    making("read_json_frame_1_kib", 1, frames::read_json),
    making("write_json_frame_1_kib", 2, frames::write_json),
    deciding("decide_and_account", decide_and_account),
];

/// The same as ours by others, for comparison; not on the path.
pub const RIVALS: &[Scenario] = &[
    making("read_json_frame_serde_owned", u64::MAX, frames::read_json_by_serde),
    making("read_json_frame_serde_borrowed", u64::MAX, frames::read_json_by_serde_borrowed),
];

fn scan() -> Step {
    let body = chat_body(MODEL_OF_TWO, false);
    Box::new(move || {
        black_box(head_of(&body));
    })
}

fn head_of(body: &Bytes) -> Head {
    let mut scanner = Scanner::new(Profile::Chat);
    scanner.push(black_box(body)).expect("the body is sound");
    scanner.finish().expect("the body is whole")
}

fn plan() -> Step {
    let fixture = Fixture::new(1);
    let snapshot = fixture.tables.peek().expect("a snapshot");
    let draws = Draws::default();
    Box::new(move || drop(black_box(planned(&snapshot.table, &fixture.key, draws.next(), 350))))
}

fn planned(table: &Table, key: &[u8; 32], random: u64, input: u64) -> Plan {
    let tenant = table.identify(Some(black_box(key)), true).expect("the key is known");
    let route = table.find(Some(black_box(MODEL_OF_TWO)), None, tenant).expect("the model is routed");
    let wish = Wish {
        quality: Wish::BALANCED,
        latency_slo_ms: None,
        cost_max: None,
        input,
        output: 256,
        explore: Permille(50),
    };
    route::plan(table, route, &wish, random).expect("there are candidates")
}

fn splice() -> Step {
    let body = chat_body(MODEL_OF_TWO, true);
    let (head, rope) = (head_of(&body), Rope::from(body));
    let upstream = Bytes::from_owner(br#""mock-model""#.to_vec());
    Box::new(move || drop(black_box(splice::for_upstream(&rope, &head, &upstream))))
}

fn read_answer() -> Step {
    let answer = crate::answer_500();
    Box::new(move || {
        let mut reader = BodyReader::new();
        reader.push(black_box(&answer));
        assert!(black_box(reader.end()).usage.is_some());
    })
}

fn stream_event() -> Step {
    let (mut reader, mut out, event) = (StreamReader::new(true), Rope::new(), event());
    Box::new(move || {
        reader.push(black_box(&event), &mut out).expect("the event is sound");
        assert!(black_box(out.pop_front()).is_some());
    })
}

fn load() -> Step {
    let fixture = Fixture::new(1);
    Box::new(move || drop(black_box(fixture.tables.load())))
}

fn permits() -> Step {
    let snapshot = Fixture::new(1).tables.peek().expect("a snapshot");
    Box::new(move || {
        let permits = &snapshot.adapters[0].permits;
        assert!(black_box(permits.try_acquire(400, Permille(1000))));
        assert!(!permits.release(400));
    })
}

fn breaker() -> Step {
    let snapshot = Fixture::new(1).tables.peek().expect("a snapshot");
    Box::new(move || {
        let breaker = &snapshot.adapters[0].breaker;
        assert_eq!(black_box(breaker.on_request(Moment(1))), Verdict::Pass);
        breaker.on_success(false);
    })
}

fn budget() -> Step {
    let snapshot = Fixture::new(1).tables.peek().expect("a snapshot");
    Box::new(move || black_box(&snapshot.routes[0].retries).on_request(Permille(200)))
}

fn tally() -> Step {
    let fixture = Fixture::new(1);
    Box::new(move || {
        let tally = black_box(&fixture.tally);
        tally.requests_started.one();
        tally.overhead_us.record(30);
        tally.first_token_ms.record(12);
        tally.latency_ms.record(12);
        tally.answered(Operation::Chat, 200);
    })
}

/// What happens to a request that is not streamed between its last byte from the caller and its last byte to
/// it, but for sockets, the clock, and the hash of the key.
fn decide_and_account() -> Step {
    let fixture = Fixture::new(1);
    let draws = Draws::default();
    Box::new(move || drop(black_box(exchange(&fixture, draws.next()))))
}

fn exchange(fixture: &Fixture, random: u64) -> (Rope, Picodollars) {
    let now = Moment(random >> 8);
    fixture.tally.requests_started.one();
    let held = fixture.tables.load().expect("a snapshot");
    let head = head_of(&fixture.body);
    let tenant = held.table.identify(Some(&fixture.key), true).expect("the key is known");
    let input = estimated_input(head.content.map_or(0, |span| span.end - span.start));
    let plan = planned(&held.table, &fixture.key, random, input);
    let row = held.table.route(plan.route);
    let terms = Terms {
        timeout: row.timeout,
        fallback: row.fallback,
        attempts_max: row.retry.attempts,
        streamed: false,
        is_callers_deadline: false,
        escalate_after: None,
    };
    held.routes[plan.route.0 as usize].retries.on_request(row.retry.budget);
    let mut exchange = Exchange::new(plan, terms, now);
    fixture.tally.overhead_us.record(30);
    let Action::Start { slot, offer: id } = exchange.poll_action(now) else {
        panic!("the plan has an offer")
    };
    let offer = held.table.offer(id);
    let cell = &held.adapters[offer.adapter.0 as usize];
    assert_eq!(cell.breaker.on_request(now), Verdict::Pass);
    assert!(cell.permits.try_acquire(400, Permille(1000)));
    fixture.tally.attempts.one();
    let sent = splice::for_upstream(&Rope::from(fixture.body.clone()), &head, &offer.upstream_json);
    assert!(matches!(exchange.poll_action(now), Action::Wait { .. }));
    let mut reader = BodyReader::new();
    reader.push(&fixture.answer);
    exchange.on_ready(slot);
    assert!(matches!(exchange.poll_action(now), Action::Relay { .. }));
    let usage = reader.end().usage.expect("the upstream says what it took");
    assert!(!cell.permits.release(400));
    cell.breaker.on_success(false);
    let cost = usage.cost(&offer.price);
    let (of_offer, of_tenant) = (&held.offers[id.0 as usize], &held.tenants[tenant.0 as usize]);
    settle(&of_offer.tallies[0], &of_tenant.tallies[0], usage, cost);
    fixture.tally.latency_ms.record(12);
    fixture.tally.answered(Operation::Chat, 200);
    (sent, cost)
}

fn settle(
    offer: &dataplane_state::tally::OfferTally,
    tenant: &dataplane_state::tally::TenantTally,
    usage: Usage,
    cost: Picodollars,
) {
    offer.requests.one();
    offer.input_tokens.add(usage.input);
    offer.output_tokens.add(usage.output);
    offer.cost_picodollars.add(cost.0);
    tenant.requests.one();
    tenant.input_tokens.add(usage.input);
    tenant.output_tokens.add(usage.output);
    tenant.cost_picodollars.add(cost.0);
}

/// Numbers that differ and repeat from run to run (Weyl sequence).
#[derive(Default)]
struct Draws(Cell<u64>);

impl Draws {
    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        self.0.get()
    }
}

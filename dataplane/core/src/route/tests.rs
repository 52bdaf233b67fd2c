use proto_core::identity::Identity;
use proto_core::model::*;
use proto_core::units::{Permille, Picodollars};

use super::*;
use crate::fault::Kind;

fn name(text: &str) -> Name {
    Name::resource(text).unwrap()
}

/// `(name, USD per million tokens both ways, quality permille, p95 ms, grade, status)`
type Spec = (&'static str, u64, u16, u32, Grade, ModelStatus);

fn adapter(specs: &[Spec]) -> Resource {
    let models = specs.iter().map(|(model, price, quality, p95, grade, status)| Model {
        name: Name::model(model).unwrap(),
        upstream_name: Name::model(model).unwrap(),
        context_tokens: None,
        price: Price {
            input: Picodollars(price * 1_000_000),
            output: Picodollars(price * 1_000_000),
            ..Price::default()
        },
        quality: Permille(*quality),
        latency_p95_ms: Some(*p95),
        status: *status,
        safety_grade: *grade,
    });
    Resource::Adapter(Adapter {
        name: name("one"),
        kind: AdapterKind::Echo(EchoSpeed { first_token: Default::default(), tokens_per_second: 0 }),
        limits: Limits { max_parallel: 1, max_tokens_in_flight: None, max_queued: 0 },
        concurrency: Concurrency::Fixed,
        models: models.collect(),
    })
}

fn route(weights: &[(&str, u32)], matches: Match) -> Resource {
    let candidates = weights.iter().map(|(model, weight)| Candidate {
        adapter: name("one"),
        model: Name::model(model).unwrap(),
        weight: *weight,
    });
    Resource::Route(Route {
        name: name(if matches.task_type.is_some() { "special" } else { "plain" }),
        matches,
        candidates: candidates.collect(),
        strategy: Strategy::Weighted,
        fallback: Fallback::default(),
        retry: Retry::default(),
        timeout: Timeout::default(),
    })
}

/// The seed's catalogue.
fn catalogue() -> Table {
    use Grade::A;
    use ModelStatus::{Active, Fallback, Shadow};
    let specs = [
        ("cheap", 400, 700, 900, A, Active),
        ("exp", 800, 780, 950, A, Shadow),
        ("mid", 1000, 800, 1100, A, Active),
        ("premium", 2000, 900, 1400, A, Fallback),
    ];
    Table::build(&Set::build([adapter(&specs)]).unwrap(), false)
}

const WISH: Wish = Wish {
    quality: Wish::BALANCED,
    latency_slo_ms: None,
    cost_max: None,
    input: 30,
    output: 120,
    explore: Permille(0),
};

fn names(table: &Table, plan: &Plan) -> Vec<String> {
    plan.offers.iter().map(|id| table.offer(*id).model.to_string()).collect()
}

fn auto(table: &Table, wish: &Wish, random: u64) -> Result<Plan, Fault> {
    let public = table.identify(None, true).unwrap();
    plan(table, table.find(None, None, public).unwrap(), wish, random)
}

#[test]
fn the_cheapest_that_is_good_enough_leads_and_the_dearest_is_the_last_resort() {
    let table = catalogue();
    let balanced = auto(&table, &WISH, 0).unwrap();
    assert_eq!(names(&table, &balanced), ["mid", "cheap", "premium"]);
    let fast = auto(&table, &Wish { quality: Wish::FAST, ..WISH }, 0).unwrap();
    assert_eq!(names(&table, &fast), ["cheap", "mid", "premium"]);
    let high = auto(&table, &Wish { quality: Wish::HIGH, ..WISH }, 0).unwrap();
    assert_eq!(names(&table, &high)[0], "premium", "kept as a fallback, and nothing active is good enough");
}

#[test]
fn nothing_in_time_and_good_enough_gives_the_best_in_time_else_the_best_of_all() {
    let table = catalogue();
    let tight = auto(&table, &Wish { quality: Wish::HIGH, latency_slo_ms: Some(1000), ..WISH }, 0).unwrap();
    assert_eq!(names(&table, &tight)[0], "cheap");
    let hopeless = auto(&table, &Wish { quality: Wish::HIGH, latency_slo_ms: Some(100), ..WISH }, 0).unwrap();
    assert_eq!(names(&table, &hopeless)[0], "premium");
}

#[test]
fn a_worse_safety_grade_never_passes_for_a_better_one() {
    let specs = [
        ("unsafe", 1, 900, 100, Grade::B, ModelStatus::Active),
        ("safe", 9, 800, 100, Grade::A, ModelStatus::Active),
    ];
    let table = Table::build(&Set::build([adapter(&specs)]).unwrap(), false);
    assert_eq!(names(&table, &auto(&table, &WISH, 0).unwrap())[0], "safe");
}

#[test]
fn what_costs_more_than_the_caller_pays_is_left_out_and_nothing_left_is_a_budget_fault() {
    let table = catalogue();
    // 150 tokens at 1000 USD per million are 0.15 USD.
    let most = Picodollars::from_usd(0.15);
    let plan = auto(&table, &Wish { cost_max: most, ..WISH }, 0).unwrap();
    assert_eq!(names(&table, &plan), ["mid", "cheap"]);
    let none = auto(&table, &Wish { cost_max: Picodollars::from_usd(0.01), ..WISH }, 0);
    assert_eq!(none.unwrap_err().kind, Kind::BudgetExceeded);
}

#[test]
fn explores_as_often_as_asked_and_only_in_second_place() {
    let table = catalogue();
    let wish = Wish { explore: Permille(50), ..WISH };
    let step = u64::MAX / 10_000;
    let explored = (0..10_000).filter(|at| auto(&table, &wish, at * step).unwrap().explores).count();
    assert!((300..700).contains(&explored), "{explored} of 10,000 at 50 permille");
    let plan = auto(&table, &Wish { explore: Permille(1000), ..WISH }, 1).unwrap();
    assert_eq!(names(&table, &plan), ["mid", "premium", "cheap"]);
}

#[test]
fn weights_decide_the_lot_and_the_others_follow_by_weight() {
    let specs =
        [("a", 1, 500, 1, Grade::A, ModelStatus::Active), ("b", 1, 500, 1, Grade::A, ModelStatus::Active)];
    let resources = [adapter(&specs), route(&[("a", 1), ("b", 3)], Match::default())];
    let table = Table::build(&Set::build(resources).unwrap(), false);
    let step = u64::MAX / 4000;
    let led =
        (0..4000).filter(|at| names(&table, &auto(&table, &WISH, at * step).unwrap())[0] == "b").count();
    assert!((2990..=3010).contains(&led), "{led}");
    assert_eq!(names(&table, &auto(&table, &WISH, 0).unwrap()), ["a", "b"]);
}

#[test]
fn a_zero_weight_only_follows() {
    let specs =
        [("a", 1, 500, 1, Grade::A, ModelStatus::Active), ("b", 1, 500, 1, Grade::A, ModelStatus::Active)];
    let resources = [adapter(&specs), route(&[("a", 0), ("b", 1)], Match::default())];
    let table = Table::build(&Set::build(resources).unwrap(), false);
    for random in [0, 1, u64::MAX / 2, u64::MAX] {
        assert_eq!(names(&table, &auto(&table, &WISH, random).unwrap()), ["b", "a"]);
    }
}

#[test]
fn the_more_specific_route_takes_the_request() {
    let specs =
        [("a", 1, 500, 1, Grade::A, ModelStatus::Active), ("b", 1, 500, 1, Grade::A, ModelStatus::Active)];
    let special = Match { task_type: Some("review".into()), ..Match::default() };
    let resources = [adapter(&specs), route(&[("a", 1)], Match::default()), route(&[("b", 1)], special)];
    let table = Table::build(&Set::build(resources).unwrap(), false);
    let public = table.identify(None, true).unwrap();
    let found = |task| &*table.route(table.find(Some("auto"), task, public).unwrap()).name;
    assert_eq!(found(Some("review")), "special");
    assert_eq!(found(Some("other")), "plain");
    assert_eq!(found(None), "plain");
    let by_name = table.find(Some("special"), None, public).unwrap();
    assert_eq!(&*table.route(by_name).name, "special", "a route is also called by its name");
    assert_eq!(table.find(Some("nobody"), None, public).unwrap_err().kind, Kind::ModelUnknown);
}

#[test]
fn models_are_found_plain_and_behind_their_adapter() {
    let table = catalogue();
    let public = table.identify(None, true).unwrap();
    assert_eq!(&*table.route(table.find(Some("mid"), None, public).unwrap()).name, "mid");
    assert_eq!(&*table.route(table.find(Some("one/mid"), None, public).unwrap()).name, "one/mid");
    let shadow = table.find(Some("one/exp"), None, public).unwrap();
    assert_eq!(names(&table, &plan(&table, shadow, &WISH, 0).unwrap()), ["exp"], "named and nothing else");
}

#[test]
fn without_tenants_loopback_is_public_and_anything_else_is_refused() {
    let open = Table::build(&Set::default(), false);
    assert!(open.identify(None, true).is_ok());
    assert!(open.identify(Some(&[7; 32]), true).is_ok(), "a key nobody asked for is ignored");
    assert_eq!(open.identify(None, false).unwrap_err().kind, Kind::KeyMissing);
    let closed = Table::build(&Set::default(), true);
    assert_eq!(
        closed.identify(None, true).unwrap_err().kind,
        Kind::KeyMissing,
        "closed once, closed for good"
    );
}

#[test]
fn with_tenants_a_key_names_one_and_public_must_be_declared() {
    let tenant = |text: &str, keys: &[u8]| {
        Resource::Tenant(Tenant {
            name: name(text),
            weight: 1,
            qos: Qos::Gold,
            keys: keys.iter().map(|byte| KeyHash([*byte; 32])).collect(),
            identities: Vec::new(),
            window: None,
            budget: None,
            preempt_streams: false,
        })
    };
    let table = Table::build(&Set::build([tenant("acme", &[1])]).unwrap(), false);
    assert_eq!(table.tenant(table.identify(Some(&[1; 32]), false).unwrap()).name.as_str(), "acme");
    assert_eq!(table.identify(Some(&[2; 32]), true).unwrap_err().kind, Kind::KeyUnknown);
    assert_eq!(table.identify(None, true).unwrap_err().kind, Kind::KeyMissing);
    let table = Table::build(&Set::build([tenant("acme", &[1]), tenant("public", &[])]).unwrap(), false);
    assert_eq!(table.tenant(table.identify(None, false).unwrap()).name.as_str(), "public");
    assert_eq!(table.identify(Some(&[2; 32]), false).unwrap_err().kind, Kind::KeyUnknown);
}

#[test]
fn a_verified_name_is_its_tenants_and_a_key_beside_it_must_be_too() {
    let tenant = |text: &str, key: u8, identities: &[&str]| {
        Resource::Tenant(Tenant {
            name: name(text),
            weight: 1,
            qos: Qos::Gold,
            keys: vec![KeyHash([key; 32])],
            identities: identities.iter().map(|text| Identity::parse(text).unwrap()).collect(),
            window: None,
            budget: None,
            preempt_streams: false,
        })
    };
    let set = Set::build([tenant("acme", 1, &[]), tenant("other", 2, &["dns:edge.example"])]).unwrap();
    let table = Table::build(&set, false);
    let who = |identity: &str, key: Option<u8>, loopback: bool| {
        let identity = Identity::parse(identity).unwrap();
        let found = table.identify_verified(&identity, key.map(|byte| [byte; 32]).as_ref(), loopback);
        found.map(|id| table.tenant(id).name.to_string()).map_err(|fault| fault.kind)
    };
    assert_eq!(who("spiffe://d/tenant/acme", None, false), Ok("acme".into()));
    assert_eq!(who("spiffe://d/tenant/acme", Some(1), false), Ok("acme".into()));
    assert_eq!(who("spiffe://d/tenant/acme", Some(2), false), Err(Kind::KeyUnknown));
    assert_eq!(who("dns:edge.example", None, false), Ok("other".into()));
    for nobody in ["spiffe://d/tenant/stranger", "spiffe://d/adapter/acme", "dns:acme"] {
        assert_eq!(who(nobody, None, false), Err(Kind::KeyMissing), "{nobody}");
        assert_eq!(who(nobody, Some(1), false), Ok("acme".into()), "{nobody}");
    }
}

#[test]
fn a_name_that_is_nobodys_is_public_on_loopback_only() {
    let public = Tenant {
        name: name("public"),
        weight: 1,
        qos: Qos::Gold,
        keys: Vec::new(),
        identities: Vec::new(),
        window: None,
        budget: None,
        preempt_streams: false,
    };
    let nobody = Identity::parse("spiffe://d/operator/ann").unwrap();
    let declared = Table::build(&Set::build([Resource::Tenant(public)]).unwrap(), false);
    for table in [declared, Table::build(&Set::default(), false)] {
        assert!(table.identify_verified(&nobody, None, true).is_ok());
        assert_eq!(table.identify_verified(&nobody, None, false).unwrap_err().kind, Kind::KeyMissing);
    }
}

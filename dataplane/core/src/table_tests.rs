//! Rows of personas: whose they are, and who works.

use proto_core::parse::{Source, documents, set};

use super::*;

const RESOURCES: &str = "kind: Adapter
name: zoo
spec: { kind: echo, models: [ { name: m, upstream_name: M, price: { in: 1, out: 2 }, context_tokens: 9 } ] }
---
kind: Adapter
name: critic
spec: { kind: persona, models: [ { name: m, quality: 0.9 } ],
  persona: { system: s, over: { adapter: zoo, model: m } } }
---
kind: Adapter
name: alone
spec: { kind: persona, models: [ { name: n } ], persona: { system: s } }
";

#[test]
fn a_persona_is_worked_by_the_adapter_it_stands_over_under_its_own_name() {
    let source = Source { file: "f", content: RESOURCES.as_bytes() };
    let set = set(&documents(&[source]).unwrap().documents).unwrap();
    let table = Table::build(&set, false);
    let row = |adapter: &str| {
        let of = |row: &&OfferRow| table.adapter(row.owner).name.as_str() == adapter;
        table.offers.iter().find(of).unwrap()
    };
    let (critic, zoo, alone) = (row("critic"), row("zoo"), row("alone"));
    assert_eq!((critic.adapter, critic.upstream_json.as_ref()), (zoo.owner, br#""M""#.as_slice()));
    assert_eq!((critic.price, critic.context_tokens), (zoo.price, zoo.context_tokens));
    assert_eq!((critic.quality, zoo.quality), (Permille(900), Permille(500)));
    assert!(critic.role.is_some() && zoo.role.is_none() && critic.hash != zoo.hash);
    assert_eq!((alone.adapter, alone.role.is_some()), (alone.owner, true));
    let route = table.find(Some("critic/m"), None, TenantId(0)).unwrap();
    assert_eq!(table.offer(table.route(route).candidates[0].offer).owner, critic.owner);
}

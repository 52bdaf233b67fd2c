//! The spec of an Adapter, mistake by mistake and edge by edge.

use std::time::Duration;

use super::{each_has_its_one_mistake, mistakes, read, resource};
use crate::model::{Adapter, AdapterKind, Concurrency, EchoSpeed, Limits, Model, Persona, Resource};
use crate::units::{Permille, Picodollars};

fn adapter(spec: &str) -> Adapter {
    match resource("Adapter", spec) {
        Resource::Adapter(adapter) => adapter,
        other => panic!("an adapter, not {other:?}"),
    }
}

fn model(fields: &str) -> Model {
    adapter(&format!("{{ kind: echo, models: [{{ name: m, {fields} }}] }}")).models.remove(0)
}

#[test]
fn what_is_not_said_has_its_default() {
    let echo = adapter("{ kind: echo, models: [{ name: m }] }");
    assert_eq!(echo.kind, AdapterKind::Echo(EchoSpeed { first_token: Duration::ZERO, tokens_per_second: 0 }));
    assert_eq!(echo.limits, Limits { max_parallel: 1024, max_tokens_in_flight: None, max_queued: 1024 });
    assert_eq!(echo.concurrency, Concurrency::Fixed);
    let model = &echo.models[0];
    assert_eq!(model.upstream_name.as_str(), "m");
    assert_eq!((model.price.input, model.price.reasoning), (Picodollars(0), Picodollars(0)));
    assert_eq!((model.quality, model.context_tokens, model.latency_p95_ms), (Permille(500), None, None));
}

#[test]
fn one_that_registers_itself_says_where_it_may_be() {
    let places = |count: u32| {
        let places = (0..count).map(|at| format!("'http://h{at}/v1'")).collect::<Vec<_>>().join(",");
        format!("{{ kind: openai, allow_endpoints: [{places}], models: [{{ name: m }}] }}")
    };
    let AdapterKind::Dialled { endpoints, lease, auth: None, tls: None } = adapter(&places(64)).kind else {
        panic!("it registers itself");
    };
    assert_eq!((endpoints.len(), lease, &*endpoints[63].host), (64, Duration::from_secs(300), "h63"));
    let told = mistakes(&format!("kind: Adapter\nname: n\nspec: {}\n", places(65)));
    assert!(told.iter().any(|what| what.contains("has 65 elements; 1 to 64 are allowed")), "{told:?}");
    let long = "{ kind: openai, allow_endpoints: ['http://h'], lease_ms: 86400000, models: [{ name: m }] }";
    assert!(matches!(adapter(long).kind, AdapterKind::Dialled { lease, .. } if lease.as_secs() == 86_400));
}

#[test]
fn each_kind_takes_its_own_fields_only() {
    let inert = "kind echo is built in and connects nowhere; remove it";
    each_has_its_one_mistake(
        "Adapter",
        &[
            ("▲{ models: [{ name: m }] }", "spec.kind: is missing"),
            (
                "{ kind: attached, endpoint: ▲'http://h', models: [{ name: m }] }",
                "spec.endpoint: kind attached dials in and is connected to nowhere; remove it",
            ),
            (
                "{ kind: attached, allow_endpoints: ▲['http://h'], models: [{ name: m }] }",
                "spec.allow_endpoints: kind attached dials in and is connected to nowhere; remove it",
            ),
            (
                "{ kind: openai, allow_endpoints: ['http://h'], endpoint: ▲'http://i', models: [{name: m}] }",
                "spec.endpoint: is instead of allow_endpoints; remove one of them",
            ),
            (
                "{ kind: openai, endpoint: 'http://h', lease_ms: ▲1000, models: [{ name: m }] }",
                "spec.lease_ms: is for allow_endpoints only; remove it",
            ),
            (
                "{ kind: openai, allow_endpoints: ['http://h', ▲'http://h:80/'], models: [{ name: m }] }",
                "spec.allow_endpoints[1]: is given twice; remove one",
            ),
            (
                "{ kind: openai, allow_endpoints: ['http://h'], lease_ms: ▲999, models: [{ name: m }] }",
                "spec.lease_ms: 999 is below 1000; 1000 to 86400000 is allowed",
            ),
            (
                "{ kind: openai, allow_endpoints: ▲[], models: [{ name: m }] }",
                "spec.allow_endpoints: has 0 elements; 1 to 64 are allowed",
            ),
            (
                "{ kind: ▲opanai, models: [{ name: m }] }",
                "spec.kind: \"opanai\" is not one of openai, anthropic, ollama, grpc, persona, echo, \
                 attached; did you mean openai?",
            ),
            (
                "{ kind: ▲5, models: [{ name: m }] }",
                "spec.kind: 5 is not one of openai, anthropic, ollama, grpc, persona, echo, attached",
            ),
            ("▲{ kind: openai, models: [{ name: m }] }", "spec.endpoint: is missing"),
            (
                "{ kind: openai, endpoint: 'http://h', echo: ▲{}, models: [{ name: m }] }",
                "spec.echo: is for kind echo only; remove it",
            ),
            (
                "{ kind: echo, endpoint: ▲'http://h', models: [{ name: m }] }",
                &format!("spec.endpoint: {inert}"),
            ),
            ("{ kind: echo, auth: ▲{}, models: [{ name: m }] }", &format!("spec.auth: {inert}")),
            ("{ kind: echo, tls: ▲{}, models: [{ name: m }] }", &format!("spec.tls: {inert}")),
            ("▲{ kind: echo }", "spec.models: is missing"),
            ("{ kind: echo, ▲models: }", "spec.models: is missing"),
        ],
    );
}

#[test]
fn connections_are_read_as_a_whole() {
    let with = |rest: &str| format!("{{ kind: openai, models: [{{ name: m }}], {rest} }}");
    let table = [
        (
            "endpoint: ▲'ftp://h'",
            "spec.endpoint: \"ftp://h\": an endpoint starts with http:// or https://, \
             or with dns:// or srv://",
        ),
        ("endpoint: ▲7", "spec.endpoint: is a number, text is expected; quote it: \"7\""),
        (
            "endpoint: 'http://h', tls: ▲{ ca: ca.pem }",
            "spec.tls: has no effect on an http:// endpoint; write https:// or remove it",
        ),
        (
            "endpoint: 'https://h', tls: ▲{ cert: c }",
            "spec.tls: `cert` and `key` come together; add the other or remove both",
        ),
        (
            "endpoint: 'https://h', tls: ▲{ key: c }",
            "spec.tls: `cert` and `key` come together; add the other or remove both",
        ),
        ("endpoint: 'https://h', tls: { ca: ▲'' }", "spec.tls.ca: is empty"),
        (
            "endpoint: 'https://h', tls: { ca: ▲\"a\\nb\" }",
            "spec.tls.ca: holds a control character or line break",
        ),
        (
            "endpoint: 'https://h', auth: ▲{}",
            "spec.auth: is either `bearer: REF` or `header: NAME` with `value: REF`",
        ),
        (
            "endpoint: 'https://h', auth: ▲{ header: x }",
            "spec.auth: is either `bearer: REF` or `header: NAME` with `value: REF`",
        ),
        (
            "endpoint: 'https://h', auth: { header: ▲'x y', value: 'file:k' }",
            "spec.auth.header: is no header name (not shown); write a name such as x-api-key",
        ),
        (
            "endpoint: 'https://h', auth: { header: ▲Host, value: 'file:k' }",
            "spec.auth.header: is a header the proxy itself sets; a credential cannot go there",
        ),
    ];
    for (rest, mistake) in table {
        each_has_its_one_mistake("Adapter", &[(&with(rest), mistake)]);
    }
}

#[test]
fn limits_hold_at_their_edges_and_refuse_one_past_them() {
    let with = |limits: &str| {
        adapter(&format!("{{ kind: echo, models: [{{ name: m }}], limits: {limits} }}")).limits
    };
    assert_eq!(with("{ max_parallel: 1 }").max_parallel, 1);
    assert_eq!(with("{ max_parallel: 1000000 }").max_parallel, 1_000_000);
    assert_eq!(
        with("{ max_tokens_in_flight: 1000000000000 }").max_tokens_in_flight.unwrap().0,
        1_000_000_000_000
    );
    let table = [
        ("{ max_parallel: ▲0 }", "spec.limits.max_parallel: 0 is below 1; 1 to 1000000 is allowed"),
        (
            "{ max_parallel: ▲1000001 }",
            "spec.limits.max_parallel: 1000001 is above 1000000; 1 to 1000000 is allowed",
        ),
        ("{ max_parallel: ▲-3 }", "spec.limits.max_parallel: -3 is below 1; 1 to 1000000 is allowed"),
        (
            "{ max_parallel: ▲18446744073709551616 }",
            "spec.limits.max_parallel: 18446744073709551616 is above 1000000; 1 to 1000000 is allowed",
        ),
        ("{ max_parallel: ▲1.5 }", "spec.limits.max_parallel: 1.5 is a number, a whole number is expected"),
        ("{ max_parallel: ▲'64' }", "spec.limits.max_parallel: \"64\" is text, a whole number is expected"),
        (
            "{ max_parallel: ▲1_000 }",
            "spec.limits.max_parallel: \"1_000\" is text, a whole number is expected",
        ),
        (
            "{ max_parallel: ▲true }",
            "spec.limits.max_parallel: true is a boolean, a whole number is expected",
        ),
        ("{ max_parallel: ▲[1] }", "spec.limits.max_parallel: is a list, a whole number is expected"),
        (
            "{ max_tokens_in_flight: ▲0 }",
            "spec.limits.max_tokens_in_flight: 0 is below 1; 1 to 1000000000000 is allowed",
        ),
        (
            "{ ▲max_paralel: 1 }",
            "spec.limits.max_paralel: there is no such field; did you mean max_parallel? There are \
             max_parallel, max_tokens_in_flight, max_queued",
        ),
    ];
    for (limits, mistake) in table {
        let spec = format!("{{ kind: echo, models: [{{ name: m }}], limits: {limits} }}");
        each_has_its_one_mistake("Adapter", &[(&spec, mistake)]);
    }
}

#[test]
fn echo_has_its_speed() {
    let spec =
        "{ kind: echo, models: [{ name: m }], echo: { first_token_ms: 600000, tokens_per_second: 1000000 } }";
    let speed = EchoSpeed { first_token: Duration::from_secs(600), tokens_per_second: 1_000_000 };
    assert_eq!(adapter(spec).kind, AdapterKind::Echo(speed));
    each_has_its_one_mistake(
        "Adapter",
        &[
            (
                "{ kind: echo, models: [{ name: m }], echo: { first_token_ms: ▲600001 } }",
                "spec.echo.first_token_ms: 600001 is above 600000; 0 to 600000 is allowed",
            ),
            (
                "{ kind: echo, models: [{ name: m }], echo: { tokens_per_second: ▲1000001 } }",
                "spec.echo.tokens_per_second: 1000001 is above 1000000; 0 to 1000000 is allowed",
            ),
        ],
    );
}

#[test]
fn prices_are_exact_to_the_picodollar() {
    let price = model("price: { in: 0.1, out: \"15.000001\" }").price;
    assert_eq!((price.input, price.output), (Picodollars(100_000), Picodollars(15_000_001)));
    assert_eq!(
        (price.cached_input, price.cache_write, price.reasoning),
        (price.input, price.input, price.output)
    );
    // 0.29 has no binary fraction: through f64 it would be 289999 picodollars.
    let price =
        model("price: { in: 0.29, out: 0.57, cached_in: 5e-05, cache_write: 1.25e0, reasoning: 0 }").price;
    assert_eq!((price.input, price.output), (Picodollars(290_000), Picodollars(570_000)));
    assert_eq!((price.cached_input, price.cache_write), (Picodollars(50), Picodollars(1_250_000)));
    assert_eq!(price.reasoning, Picodollars(0));
    let price = model("price: { in: 1000000, out: 0.000001 }").price;
    assert_eq!((price.input, price.output), (Picodollars(1_000_000_000_000), Picodollars(1)));
}

#[test]
fn prices_that_are_none_say_so() {
    let table = [
        ("▲{ out: 1 }", "spec.models[0].price.in: is missing"),
        ("{ in: ▲0.1234567, out: 1 }", "spec.models[0].price.in: 0.1234567 has more than 6 decimals"),
        ("{ in: ▲-1, out: 1 }", "spec.models[0].price.in: -1 is below 0; 0 to 1000000 is allowed"),
        (
            "{ in: ▲1000000.000001, out: 1 }",
            "spec.models[0].price.in: 1000000.000001 is above 1000000; 0 to 1000000 is allowed",
        ),
        (
            "{ in: ▲1e999999, out: 1 }",
            "spec.models[0].price.in: 1e999999 is above 1000000; 0 to 1000000 is allowed",
        ),
        ("{ in: ▲1e-999999, out: 1 }", "spec.models[0].price.in: 1e-999999 has more than 6 decimals"),
        ("{ in: ▲'$1', out: 1 }", "spec.models[0].price.in: \"$1\" is text, a number is expected"),
        ("{ in: ▲true, out: 1 }", "spec.models[0].price.in: true is a boolean, a number is expected"),
        (
            "▲5",
            "spec.models[0].price: is a number, fields are expected: in, out, cached_in, cache_write, \
             reasoning",
        ),
    ];
    for (price, mistake) in table {
        let spec = format!("{{ kind: echo, models: [{{ name: m, price: {price} }}] }}");
        each_has_its_one_mistake("Adapter", &[(&spec, mistake)]);
    }
}

#[test]
fn qualities_are_exact_thousandths() {
    for (written, permille) in
        [("0", 0), ("1", 1000), ("0.71", 710), ("0.999", 999), ("1.000", 1000), ("'0.5'", 500)]
    {
        assert_eq!(model(&format!("quality: {written}")).quality, Permille(permille), "{written}");
    }
    let table = [
        ("quality: ▲1.001", "spec.models[0].quality: 1.001 is above 1; 0 to 1 is allowed"),
        ("quality: ▲0.7125", "spec.models[0].quality: 0.7125 has more than 3 decimals"),
        ("quality: ▲-0.1", "spec.models[0].quality: -0.1 is below 0; 0 to 1 is allowed"),
        (
            "status: ▲activ",
            "spec.models[0].status: \"activ\" is not one of active, shadow, fallback; did you mean active?",
        ),
        ("safety_grade: ▲E", "spec.models[0].safety_grade: \"E\" is not one of A, B, C, D"),
        ("latency_p95_ms: ▲0", "spec.models[0].latency_p95_ms: 0 is below 1; 1 to 86400000 is allowed"),
        ("context_tokens: ▲0", "spec.models[0].context_tokens: 0 is below 1; 1 to 1000000000000 is allowed"),
        (
            "upstream_name: ▲'a b'",
            "spec.models[0].upstream_name: \"a b\": a model name is made of letters, digits and any of - _ \
             . : / @ + ? = &",
        ),
    ];
    for (fields, mistake) in table {
        let spec = format!("{{ kind: echo, models: [{{ name: m, {fields} }}] }}");
        each_has_its_one_mistake("Adapter", &[(&spec, mistake)]);
    }
}

#[test]
fn models_are_one_to_a_thousand_with_unique_names() {
    let spec = |count: usize| {
        let models: String = (0..count).map(|at| format!("    - name: m{at}\n")).collect();
        format!("kind: Adapter\nname: x\nspec:\n  kind: echo\n  models:\n{models}")
    };
    assert!(read(&spec(1000)).is_ok());
    assert_eq!(mistakes(&spec(1001)), ["f:6:5: spec.models: has 1001 elements; 1 to 1000 are allowed"]);
    each_has_its_one_mistake(
        "Adapter",
        &[
            ("{ kind: echo, models: ▲[] }", "spec.models: has 0 elements; 1 to 1000 are allowed"),
            ("{ kind: echo, models: ▲{ name: m } }", "spec.models: is a map, a list is expected"),
            (
                "{ kind: echo, models: [▲m] }",
                "spec.models[0]: is text, fields are expected: name, upstream_name, context_tokens, price, \
                 quality, latency_p95_ms, status, safety_grade",
            ),
            (
                "{ kind: echo, models: [{ name: m }, { name: n }, { name: ▲m }] }",
                "spec.models[2].name: model m is given twice, first on line 3; remove one",
            ),
            (
                "{ kind: echo, models: [{ name: ▲4 }] }",
                "spec.models[0].name: is a number, text is expected; quote it: \"4\"",
            ),
            ("{ kind: echo, models: [▲{}] }", "spec.models[0].name: is missing"),
        ],
    );
}

#[test]
fn a_limit_is_fixed_unless_it_is_said_to_move() {
    let table =
        [("aimd", Concurrency::Aimd), ("gradient", Concurrency::Gradient), ("fixed", Concurrency::Fixed)];
    for (written, expected) in table {
        let content = super::document(
            "Adapter",
            &format!("{{ kind: echo, models: [{{ name: m }}], concurrency: {written} }}"),
        );
        let parsed = read(&content).unwrap();
        assert!(parsed.warnings.is_empty(), "{written}");
        let Resource::Adapter(adapter) = &parsed.documents[0].resource else { panic!("an adapter") };
        assert_eq!(adapter.concurrency, expected);
    }
}

#[test]
fn servers_of_other_words_and_personas_take_their_own_fields_only() {
    each_has_its_one_mistake(
        "Adapter",
        &[
            ("▲{ kind: grpc, models: [{ name: m }] }", "spec.endpoint: is missing"),
            (
                "{ kind: grpc, endpoint: ▲'http://h:1/x', models: [{ name: m }] }",
                "spec.endpoint: names a path, and a gRPC service has none; remove it",
            ),
            (
                "{ kind: ollama, persona: ▲{}, models: [{ name: m }] }",
                "spec.persona: is for kind persona only; remove it",
            ),
            ("▲{ kind: persona, models: [{ name: m }] }", "spec.persona: is missing"),
            (
                "{ kind: persona, limits: ▲{}, persona: { system: s }, models: [{ name: m }] }",
                "spec.limits: kind persona has that of the adapter it stands over; remove it",
            ),
            (
                "{ kind: persona, persona: { system: ▲' ' }, models: [{ name: m }] }",
                "spec.persona.system: is text of 1 to 65536 bytes without control characters",
            ),
            (
                "{ kind: persona, persona: { system: s, over: ▲{ adapter: a } }, models: [{ name: m }] }",
                "spec.persona.over.model: is missing",
            ),
        ],
    );
}

#[test]
fn an_ollama_needs_no_endpoint_and_a_persona_says_its_part() {
    let ollama = adapter("{ kind: ollama, models: [{ name: m }] }");
    assert!(matches!(ollama.kind, AdapterKind::Ollama { endpoint: None, auth: None, tls: None }));
    let of =
        |persona: &str| adapter(&format!("{{ kind: persona, persona: {persona}, models: [{{ name: m }}] }}"));
    let AdapterKind::Persona(persona) = of("{ system: s, temperature: 2, top_p: 0.05, max_tokens: 9 }").kind
    else {
        panic!("a persona");
    };
    let expected = Persona {
        over: None,
        system: "s".into(),
        temperature_permille: Some(2000),
        top_p_permille: Some(50),
        max_tokens: Some(9),
    };
    assert_eq!(persona, expected);
    let lines = of("{ system: \"a\\n\\tb\" }").kind;
    assert!(matches!(lines, AdapterKind::Persona(Persona { system, .. }) if &*system == "a\n\tb"));
    let longest = "x".repeat(65_536);
    assert!(matches!(of(&format!("{{ system: {longest} }}")).kind, AdapterKind::Persona(_)));
    let past = format!("{{ kind: persona, persona: {{ system: {longest}x }}, models: [{{ name: m }}] }}");
    let found = mistakes(&super::document("Adapter", &past));
    assert!(
        found.len() == 1 && found[0].contains("is text of 1 to 65536 bytes without control characters"),
        "{found:?}"
    );
}

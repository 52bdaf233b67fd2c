//! What is recorded of a request, in the recorder itself; and what becomes of spans nobody takes.

use std::cell::Cell;

use dataplane_core::fault::Kind as FaultKind;
use dataplane_core::trace::Share;
use prost::Message;

use super::*;

fn traces(spans_max: usize) -> Arc<Traces> {
    Arc::new(Traces::new(Sampler::default(), spans_max))
}

fn begin(traces: &Arc<Traces>, traceparent: &str, operation: Operation) -> Option<Trace> {
    let mut headers = HeaderMap::new();
    if !traceparent.is_empty() {
        headers.insert(TRACEPARENT, traceparent.parse().unwrap());
    }
    let next = Cell::new(0);
    let random = || {
        next.set(next.get() + 1);
        next.get()
    };
    traces.begin(parent(&headers), operation, clock::now(), random)
}

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let all: Vec<_> = spans.iter().map(|span| &span.name).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

fn usage() -> Usage {
    Usage { input: 7, output: 9, ..Usage::default() }
}

#[test]
fn an_ask_is_a_tree_below_its_callers_span() {
    let traces = traces(16);
    let trace = begin(&traces, GIVEN, Operation::Ask).unwrap();
    trace.set_model("m");
    trace.was("bandit.select", clock::now(), vec![("bandit.choice", "m".into())], None);
    let dispatch = trace.dispatching(2);
    let attempt = trace.attempt("local", "m");
    let mut headers = HeaderMap::new();
    attempt.put_context(&mut headers);
    attempt.on_answer(usage());
    drop(dispatch);
    drop((attempt, trace));
    let spans = traces.take(16);
    let root = named(&spans, "chat m");
    assert_eq!((root.trace, root.parent), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
    assert_eq!((root.kind, root.error), (Kind::Server, None));
    assert!(root.attributes.contains(&("gen_ai.usage.output_tokens", 9.into())), "{root:?}");
    assert!(root.attributes.contains(&("gen_ai.provider.name", "local".into())), "{root:?}");
    let ask = named(&spans, "ask");
    assert_eq!(ask.parent, root.id);
    assert_eq!(named(&spans, "bandit.select").parent, ask.id);
    let dispatch = named(&spans, "dispatch");
    assert_eq!((dispatch.parent, &dispatch.attributes[0]), (ask.id, &("roles.count", 2.into())));
    let attempt = named(&spans, "adapter.stream");
    assert_eq!((attempt.parent, attempt.kind), (dispatch.id, Kind::Client));
    let sent = Context::parse(headers[TRACEPARENT].as_bytes()).unwrap();
    assert_eq!((sent.trace, sent.span, sent.sampled), (root.trace, attempt.id, true));
    let ids: std::collections::HashSet<u64> = spans.iter().map(|span| span.id).collect();
    assert_eq!(ids.len(), spans.len(), "each has an id of its own");
}

#[test]
fn a_fault_is_told_by_its_code_on_the_attempt_and_on_the_request() {
    let traces = traces(16);
    let trace = begin(&traces, "", Operation::Chat).unwrap();
    let mut attempt = trace.attempt("local", "m");
    let fault = Fault::proxy(FaultKind::NotReady);
    attempt.on_fault(fault);
    drop(attempt);
    trace.on_fault(fault);
    drop(trace);
    let spans = traces.take(16);
    assert_eq!(named(&spans, "adapter.stream").error, Some("not_ready"));
    assert_eq!((named(&spans, "chat").error, named(&spans, "chat").parent), (Some("not_ready"), 0));
}

#[test]
fn what_belongs_to_no_request_is_a_trace_of_its_own_and_feedback_is_its_requests() {
    let traces = traces(16);
    traces.alone("window.update", clock::now(), vec![("window.delta", Value::Change(-3))], || 5);
    let trace = begin(&traces, GIVEN, Operation::Mcp).unwrap();
    trace.attempt("local", "m").on_feedback(clock::now(), (4, 5), 120, true);
    drop(trace);
    let spans = traces.take(16);
    let update = named(&spans, "window.update");
    assert_eq!((update.parent, update.trace), (0, 5 << 64 | 5));
    let (feedback, root) = (named(&spans, "aimd.feedback"), named(&spans, "chat"));
    assert_eq!((feedback.parent, feedback.trace), (root.id, root.trace));
    assert_eq!(feedback.attributes[..2], [("before", 4.into()), ("after", 5.into())]);
    assert_eq!(feedback.attributes[2..], [("latency_ms", 120.into()), ("ok", true.into())]);
    let none = Traces::new(Sampler { heeds_parent: true, share: Share::None }, 16);
    none.alone("window.update", clock::now(), Vec::new(), || 5);
    assert_eq!(none.waiting(), 0);
}

#[test]
fn who_is_not_drawn_is_not_traced() {
    let unsampled = GIVEN.replace("-01", "-00");
    assert!(begin(&traces(16), &unsampled, Operation::Chat).is_none());
    let sampler = Sampler { heeds_parent: true, share: Share::None };
    let none = Arc::new(Traces::new(sampler, 16));
    assert!(begin(&none, "", Operation::Chat).is_none());
    assert!(begin(&none, GIVEN, Operation::Chat).is_some());
}

#[test]
fn the_queue_takes_as_many_as_it_may_and_counts_one_more() {
    let traces = traces(2);
    let trace = begin(&traces, "", Operation::Chat).unwrap();
    for _ in 0..2 {
        trace.was("fair.acquire", clock::now(), Vec::new(), None);
    }
    assert_eq!((traces.waiting(), traces.dropped.value()), (2, 0));
    drop(trace);
    assert_eq!((traces.waiting(), traces.dropped.value(), traces.recorded.value()), (2, 1, 3));
    let nothing = self::traces(0);
    drop(begin(&nothing, "", Operation::Chat).unwrap());
    assert_eq!((nothing.waiting(), nothing.recorded.value()), (0, 0), "only contexts are passed on");
}

#[test]
fn a_batch_is_what_the_protocol_says() {
    let span = Span {
        trace: 1,
        id: 2,
        parent: 3,
        name: "chat m".into(),
        kind: Kind::Server,
        began: Moment(5),
        ended: Moment(7),
        attributes: vec![("a", true.into())],
        error: Some("not_ready"),
    };
    let request = otlp::request(&[("service.name".into(), "s".into())], vec![span]);
    let read = otlp::ExportRequest::decode(&*request.encode_to_vec()).unwrap();
    assert_eq!(read, request);
    let span = &read.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.trace_id.len(), span.span_id.len(), span.kind), (16, 8, 2));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 2);
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
    // Trace id: field 1, length-delimited, 16 bytes.
    let bytes = span.encode_to_vec();
    assert_eq!((bytes[0], bytes[1], bytes[17]), (0x0a, 16, 1));
}

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

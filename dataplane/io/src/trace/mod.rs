//! Traces of requests: what is drawn is decided before anything else is done for a request, and who is not
//! drawn costs one comparison. A span is put into a queue with a bound when it ends; where the queue is full
//! it is dropped and counted. Whoever takes them out is on another thread, and no request ever waits for it.

pub mod export;
pub mod otlp;
pub mod span;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;
use dataplane_core::bill::Usage;
use dataplane_core::fault::Fault;
use dataplane_core::route::Plan;
use dataplane_core::table::Table;
use dataplane_core::trace::{Context, Sampler};
use dataplane_state::tally::{Counter, Operation};
use http::{HeaderMap, HeaderName, HeaderValue};
use proto_core::units::Moment;

use self::span::{Kind, Span, Value};
use crate::clock;

/// What is recorded of all requests, until somebody takes it: also the recorder that tests read.
#[derive(Debug)]
pub struct Traces {
    sampler: Sampler,
    /// `None`: contexts are passed on, and nothing is recorded.
    ended: Option<ArrayQueue<Span>>,
    pub recorded: Counter,
    /// The queue was full.
    pub dropped: Counter,
    pub exported: Counter,
    /// Taken out, and refused or not taken by the receiver.
    pub failed: Counter,
}

/// The trace of one request. Its first span ends when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Request>);

#[derive(Debug)]
struct Request {
    traces: Arc<Traces>,
    own: Context,
    /// 0: none.
    parent: u64,
    /// Of what belongs to `/v1/ask`, where that is the door; else the first span's own.
    inner: u64,
    dispatch: u64,
    began: Moment,
    operation: Operation,
    next: AtomicU64,
    model: OnceLock<Box<str>>,
    answer: OnceLock<Answer>,
    error: OnceLock<&'static str>,
}

/// Whose answer the caller got.
#[derive(Debug)]
struct Answer {
    adapter: Box<str>,
    model: Box<str>,
    usage: Usage,
}

/// One attempt's span. It ends when this is dropped.
#[derive(Debug)]
pub struct Attempt {
    trace: Trace,
    id: u64,
    began: Moment,
    adapter: Box<str>,
    model: Box<str>,
    error: Option<&'static str>,
}

/// A span that ends when this is dropped.
#[derive(Debug)]
pub struct Under {
    trace: Trace,
    name: &'static str,
    id: u64,
    began: Moment,
    attributes: Vec<(&'static str, Value)>,
}

impl Traces {
    /// `spans_max`: recorded and not taken yet; 0 records nothing.
    pub fn new(sampler: Sampler, spans_max: usize) -> Traces {
        Traces {
            sampler,
            ended: (spans_max > 0).then(|| ArrayQueue::new(spans_max)),
            recorded: Counter::default(),
            dropped: Counter::default(),
            exported: Counter::default(),
            failed: Counter::default(),
        }
    }

    /// The trace of a request that arrived `at`, where it is drawn. `parent`: the span its caller says it
    /// belongs to. `random`: 64 random bits each.
    pub fn begin(
        self: &Arc<Traces>,
        parent: Option<Context>,
        operation: Operation,
        at: Moment,
        random: impl Fn() -> u64,
    ) -> Option<Trace> {
        let drawn = || u128::from(random()) << 64 | u128::from(random().max(1));
        let trace = parent.map_or_else(drawn, |parent| parent.trace);
        if !self.sampler.is_sampled(parent, trace) {
            return None;
        }
        let span = random().max(1);
        let inner = if operation == Operation::Ask { random().max(1) } else { span };
        Some(Trace(Arc::new(Request {
            traces: Arc::clone(self),
            own: Context { trace, span, sampled: true },
            parent: parent.map_or(0, |parent| parent.span),
            inner,
            dispatch: random().max(1),
            began: at,
            operation,
            next: AtomicU64::new(random()),
            model: OnceLock::new(),
            answer: OnceLock::new(),
            error: OnceLock::new(),
        })))
    }

    /// Something of no request that happened from `began` until now: a trace of its own, where it is drawn.
    pub fn alone(
        &self,
        name: &'static str,
        began: Moment,
        attributes: Vec<(&'static str, Value)>,
        random: impl Fn() -> u64,
    ) {
        let trace = u128::from(random()) << 64 | u128::from(random().max(1));
        if self.sampler.is_sampled(None, trace) {
            let (id, ended, kind) = (random().max(1), clock::now(), Kind::Internal);
            let name = name.into();
            let span = Span { trace, id, parent: 0, name, kind, began, ended, attributes, error: None };
            self.on_ended(span);
        }
    }

    /// The oldest spans that wait, at most `most`.
    pub fn take(&self, most: usize) -> Vec<Span> {
        let Some(ended) = &self.ended else { return Vec::new() };
        std::iter::from_fn(|| ended.pop()).take(most).collect()
    }

    /// Spans that ended and were not taken.
    pub fn waiting(&self) -> usize {
        self.ended.as_ref().map_or(0, ArrayQueue::len)
    }

    fn on_ended(&self, span: Span) {
        let Some(ended) = &self.ended else { return };
        self.recorded.one();
        if ended.push(span).is_err() {
            self.dropped.one();
        }
    }
}

impl Trace {
    /// What the caller asked for.
    pub fn set_model(&self, model: &str) {
        let _ = self.0.model.set(model.into());
    }

    /// The caller was told of it; the first one counts.
    pub fn on_fault(&self, fault: Fault) {
        let _ = self.0.error.set(fault.code());
    }

    /// Something that happened from `began` until now.
    pub fn was(
        &self,
        name: &'static str,
        began: Moment,
        attributes: Vec<(&'static str, Value)>,
        error: Option<Fault>,
    ) {
        let (id, parent) = (self.id(), self.0.inner);
        self.end(id, parent, name, Kind::Internal, began, attributes, error.map(Fault::code));
    }

    /// Who is asked, in which order, was decided from `began` until now.
    pub fn on_plan(&self, began: Moment, table: &Table, plan: &Plan) {
        let first = plan.offers.first().map_or("", |offer| table.offer(*offer).model.as_str());
        let attributes = vec![
            ("bandit.strategy", table.route(plan.route).strategy.as_str().into()),
            ("bandit.candidates", Value::Count(plan.offers.len() as u64)),
            ("bandit.choice", first.into()),
        ];
        self.was("bandit.select", began, attributes, None);
    }

    /// From now until what is given is dropped: all attempts begin below it.
    pub fn dispatching(&self, candidates: usize) -> Under {
        let attributes = vec![("roles.count", Value::Count(candidates as u64))];
        Under { trace: self.clone(), name: "dispatch", id: self.0.dispatch, began: clock::now(), attributes }
    }

    /// One attempt, from now on.
    pub fn attempt(&self, adapter: &str, model: &str) -> Attempt {
        let (trace, id) = (self.clone(), self.id());
        Attempt { trace, id, began: clock::now(), adapter: adapter.into(), model: model.into(), error: None }
    }

    fn id(&self) -> u64 {
        // Order: relaxed. Only different numbers are wanted (SplitMix64, Steele et al. 2014).
        let state = self.0.next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }

    #[expect(clippy::too_many_arguments, reason = "what a span is made of")]
    fn end(
        &self,
        id: u64,
        parent: u64,
        name: &'static str,
        kind: Kind,
        began: Moment,
        attributes: Vec<(&'static str, Value)>,
        error: Option<&'static str>,
    ) {
        let (trace, ended) = (self.0.own.trace, clock::now());
        let span = Span { trace, id, parent, name: name.into(), kind, began, ended, attributes, error };
        self.0.traces.on_ended(span);
    }
}

impl Attempt {
    /// For the adapter: whatever it records belongs below this attempt.
    pub fn put_context(&self, headers: &mut HeaderMap) {
        let context = Context { span: self.id, ..self.trace.0.own };
        let value = HeaderValue::try_from(context.to_text()).expect("digits are a header value");
        headers.insert(TRACEPARENT, value);
    }

    pub fn on_fault(&mut self, fault: Fault) {
        self.error = Some(fault.code());
    }

    /// What it was worth to the window of its run, which was `before` and is `after`.
    pub fn on_feedback(&self, began: Moment, (before, after): (u32, u32), latency_ms: u64, ok: bool) {
        let attributes = vec![
            ("before", u64::from(before).into()),
            ("after", u64::from(after).into()),
            ("latency_ms", latency_ms.into()),
            ("ok", ok.into()),
        ];
        self.trace.was("aimd.feedback", began, attributes, None);
    }

    /// The caller got this answer, and it took so much.
    pub fn on_answer(&self, usage: Usage) {
        let (adapter, model) = (self.adapter.clone(), self.model.clone());
        let _ = self.trace.0.answer.set(Answer { adapter, model, usage });
        if let Some(error) = self.error {
            let _ = self.trace.0.error.set(error);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let attributes = vec![
            ("gen_ai.provider.name", Value::Text(std::mem::take(&mut self.adapter))),
            ("gen_ai.request.model", Value::Text(std::mem::take(&mut self.model))),
        ];
        let dispatch = self.trace.0.dispatch;
        self.trace.end(self.id, dispatch, "adapter.stream", Kind::Client, self.began, attributes, self.error);
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let (attributes, parent) = (std::mem::take(&mut self.attributes), self.trace.0.inner);
        self.trace.end(self.id, parent, self.name, Kind::Internal, self.began, attributes, None);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Request { own, parent, inner, began, .. } = *self;
        let operation = match self.operation {
            // What a caller wants of it is a chat; how it asks is another span.
            Operation::Ask | Operation::Session | Operation::Mcp => Operation::Chat.as_str(),
            operation => operation.as_str(),
        };
        let model = self.model.take().unwrap_or_default();
        let name = if model.is_empty() { operation.into() } else { format!("{operation} {model}") };
        let mut attributes: Vec<(&'static str, Value)> = vec![("gen_ai.operation.name", operation.into())];
        if !model.is_empty() {
            attributes.push(("gen_ai.request.model", Value::Text(model)));
        }
        if let Some(Answer { adapter, model, usage }) = self.answer.take() {
            attributes.push(("gen_ai.provider.name", Value::Text(adapter)));
            attributes.push(("gen_ai.response.model", Value::Text(model)));
            attributes.push(("gen_ai.usage.input_tokens", usage.input.into()));
            attributes.push(("gen_ai.usage.output_tokens", usage.output.into()));
            if usage.cached_input > 0 {
                attributes.push(("gen_ai.usage.cache_read.input_tokens", usage.cached_input.into()));
            }
        }
        let (trace, ended, error) = (own.trace, clock::now(), self.error.take());
        if inner != own.span {
            let (name, kind, attributes) = ("ask".into(), Kind::Internal, Vec::new());
            let span =
                Span { trace, id: inner, parent: own.span, name, kind, began, ended, attributes, error };
            self.traces.on_ended(span);
        }
        let (id, name, kind) = (own.span, name.into(), Kind::Server);
        self.traces.on_ended(Span { trace, id, parent, name, kind, began, ended, attributes, error });
    }
}

/// The span a request's headers say it belongs to.
pub fn parent(headers: &HeaderMap) -> Option<Context> {
    headers.get(TRACEPARENT).and_then(|value| Context::parse(value.as_bytes()))
}

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

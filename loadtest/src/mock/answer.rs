//! One request to one answer, with its script's pace and fault.
//!
//! What it is for: the part both HTTP versions share. It decides what is sent and when; the wire knows how.
//! It never retries a write and never outlives its client: every wait watches for the client's leaving.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use super::ask::Ask;
use super::ledger::{Answered, Left, Outcome, UnderWay, unix_ns};
use super::render::{self, Form, Shape, Text};
use super::script::{BadWord, Fault, Script};
use super::wire::{Head, Wire};

/// A request whose head and body have been read.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// Path and query.
    pub(crate) target: &'a str,
    /// Value of `x-mock-script`.
    pub(crate) script: Option<&'a str>,
    pub(crate) body: Bytes,
}

/// What the connection does behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The answer is whole; the connection lives.
    Kept,
    /// Close without finishing the body (on HTTP/2: reset the stream).
    Cut,
    /// Reset the TCP connection.
    Reset,
}

pub(crate) async fn answer(shared: &Shared, asked: &Asked<'_>, wire: &mut Wire<'_>) -> Ending {
    let path = asked.target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let done = match (asked.method, path) {
        ("POST", "/chat/completions") => {
            return scripted(shared, asked, Endpoint::Text(Form::Chat), wire).await;
        }
        ("POST", "/completions") => {
            return scripted(shared, asked, Endpoint::Text(Form::Completion), wire).await;
        }
        ("POST", "/messages") => {
            return scripted(shared, asked, Endpoint::Text(Form::Message), wire).await;
        }
        ("POST", "/messages/count_tokens") => {
            let tokens = Ask::read(&asked.body).map(|ask| ask.prompt_tokens());
            match tokens {
                Ok(tokens) => json(wire, 200, format!("{{\"input_tokens\":{tokens}}}").as_bytes()).await,
                Err(why) => json(wire, 400, &render::refusal(Form::Message, 400, &why)).await,
            }
        }
        ("POST", "/embeddings") => return scripted(shared, asked, Endpoint::Embeddings, wire).await,
        ("GET", "/models") => json(wire, 200, &render::models(&shared.config.models)).await,
        ("GET", "/health") => json(wire, 200, b"{\"status\":\"ok\"}").await,
        ("GET", "/mock/stats") => json(wire, 200, &as_json(&shared.ledger.stats())).await,
        ("GET", "/mock/requests") => json(wire, 200, &as_json(&shared.ledger.requests())).await,
        ("POST", "/mock/reset") => {
            shared.ledger.reset();
            json(wire, 200, b"{}").await
        }
        (method, path) => match path.strip_prefix("/models/").filter(|_| method == "GET") {
            Some(name) => json(wire, 200, render::model(name).as_bytes()).await,
            None => {
                json(wire, 404, &render::error(404, &format!("{method} {path} is nothing this mock serves")))
                    .await
            }
        },
    };
    done.map_or(Ending::Cut, |()| Ending::Kept)
}

#[derive(Clone, Copy)]
enum Endpoint {
    Text(Form),
    Embeddings,
}

impl Endpoint {
    /// Whose dialect its errors are in.
    fn form(self) -> Form {
        match self {
            Endpoint::Text(form) => form,
            Endpoint::Embeddings => Form::Chat,
        }
    }
}

/// An endpoint that a model answers: here scripts apply and the ledger counts.
async fn scripted(shared: &Shared, asked: &Asked<'_>, endpoint: Endpoint, wire: &mut Wire<'_>) -> Ending {
    let read = Ask::read(&asked.body).and_then(|ask| {
        let script = script_of(shared, &ask.model, asked.script).map_err(|bad| bad.to_string())?;
        Ok((ask, script))
    });
    let (ask, script) = match read {
        Ok(read) => read,
        Err(why) => {
            let refused = json(wire, 400, &render::refusal(endpoint.form(), 400, &why)).await;
            return refused.map_or(Ending::Cut, |()| Ending::Kept);
        }
    };
    let under_way = shared.ledger.on_request(&ask.model, asked.body.len());
    if let Some(status) = script.status_at(under_way.at_once) {
        let refused = refuse(endpoint.form(), status, script.retry_after_s, wire).await;
        shared
            .ledger
            .on_end(under_way, refused.as_ref().map_or_else(|left| Outcome::Left(*left), |_| Outcome::Full));
        return refused.unwrap_or(Ending::Cut);
    }
    under_way.on_let_in();
    let streamed = ask.stream.unwrap_or(false) && !matches!(endpoint, Endpoint::Embeddings);
    let fault = script.fault_of_request(under_way.number).filter(|fault| fault.is_for(streamed));
    let mut making = Making { shared, ask: &ask, script: &script, fault, under_way };
    let made = making.make(endpoint, wire).await;
    let outcome = match (&made, fault) {
        (Err(left), _) => Outcome::Left(*left),
        (Ok(_), Some(_)) => Outcome::Faulted,
        (Ok(_), None) => Outcome::Completed,
    };
    shared.ledger.on_end(making.under_way, outcome);
    made.unwrap_or(Ending::Cut)
}

fn script_of(shared: &Shared, model: &str, header: Option<&str>) -> Result<Script, BadWord> {
    let mut script = shared.config.script.clone();
    // A refusal of the whole mock has already been applied to the connection.
    script.fault = script.fault.filter(|fault| *fault != Fault::Refuse);
    for words in [Script::of_model(model), header].into_iter().flatten() {
        script.apply(words)?;
    }
    Ok(script)
}

/// An answer in the making.
struct Making<'a> {
    shared: &'a Shared,
    ask: &'a Ask<'a>,
    script: &'a Script,
    fault: Option<Fault>,
    under_way: UnderWay,
}

impl Making<'_> {
    async fn make(&mut self, endpoint: Endpoint, wire: &mut Wire<'_>) -> Result<Ending, Left> {
        match self.fault {
            Some(Fault::Refuse | Fault::Reset) => return Ok(Ending::Reset),
            Some(Fault::Hang) => return wire.wait_for_leaving().await,
            Some(Fault::EndlessHead) => return wire.endless_head().await,
            Some(Fault::Slow(rate)) => wire.slow_down(rate),
            _ => {}
        }
        if let Some(Fault::Status(status)) = self.fault {
            wire.wait_until(Instant::now() + self.first_token()).await?;
            self.under_way.on_refused();
            let retry_after_s = self.script.retry_after_s.or((status == 429).then_some(1));
            return refuse(endpoint.form(), status, retry_after_s, wire).await;
        }
        match endpoint {
            Endpoint::Embeddings => {
                wire.wait_until(Instant::now() + self.first_token()).await?;
                self.whole(&self.embeddings(), wire).await
            }
            Endpoint::Text(form) => {
                let (text, cut_short) = self.text();
                let shape = self.shape(form, &text, cut_short);
                if self.shared.config.record {
                    self.under_way.answered = Some(self.answered(&shape));
                }
                if self.ask.stream.unwrap_or(false) {
                    self.stream(&shape, wire).await
                } else {
                    let paced = self.pause_before(text.tokens());
                    wire.wait_until(Instant::now() + paced).await?;
                    self.under_way.tokens_sent += u64::from(text.tokens()) * u64::from(shape.choices);
                    self.whole(&shape.whole(), wire).await
                }
            }
        }
    }

    fn text(&self) -> (Text, bool) {
        let allowed = self.ask.tokens_allowed();
        if self.script.echo {
            return Text::echoed(&self.ask.last_text(), allowed);
        }
        let (tokens, cut_short) = self.script.tokens_within(allowed);
        (Text::Counted { tokens, bytes: self.script.answer_bytes }, cut_short)
    }

    fn shape<'t>(&self, form: Form, text: &'t Text, cut_short: bool) -> Shape<'t> {
        Shape {
            form,
            identity: self.shared.ledger.next_identity(),
            created_s: unix_ns() / 1_000_000_000,
            model: render::quoted(&self.ask.model),
            text,
            tool: self
                .ask
                .tool()
                .filter(|_| form != Form::Completion && !self.script.echo)
                .map(|name| render::quoted(&name)),
            choices: self.ask.choices(),
            cut_short,
            prompt_tokens: self.ask.prompt_tokens(),
            cache_tokens: self.ask.cache_tokens(),
            wants_usage: form != Form::Message && self.ask.wants_usage(),
        }
    }

    fn answered(&self, shape: &Shape<'_>) -> Answered {
        Answered {
            model: self.ask.model.clone().into_owned(),
            id: shape.id(),
            prompt_tokens: shape.prompt_tokens,
            tokens_sent: 0,
            is_complete: false,
        }
    }

    fn embeddings(&self) -> Vec<u8> {
        let dimensions = self.ask.dimensions.unwrap_or(DIMENSIONS).min(DIMENSIONS_MAX);
        let as_base64 = self.ask.encoding_format == Some("base64");
        render::embeddings(
            &self.ask.model,
            self.ask.inputs(),
            dimensions,
            as_base64,
            self.ask.prompt_tokens(),
        )
    }

    /// Sends an answer that is not streamed.
    async fn whole(&self, body: &[u8], wire: &mut Wire<'_>) -> Result<Ending, Left> {
        let half = |k: u32| if k == 0 { &body[..0] } else { &body[..body.len() / 2] };
        let (sent, promised) = match self.fault {
            Some(Fault::ResetAfter(k) | Fault::CutAfter(k) | Fault::HangAfter(k)) => (half(k), body.len()),
            Some(Fault::MalformedJson) => (half(1), half(1).len()),
            Some(Fault::WrongLength) => (body, body.len() + WRONG_LENGTH_BYTES),
            _ => (body, body.len()),
        };
        wire.head(&Head::whole(200, promised)).await?;
        wire.body(sent).await?;
        match self.fault {
            Some(Fault::Garbage) => {
                wire.garbage().await?;
                return Ok(Ending::Cut);
            }
            Some(Fault::ResetAfter(_) | Fault::CutAfter(_) | Fault::HangAfter(_) | Fault::WrongLength) => {
                wire.flush().await?;
            }
            _ => {}
        }
        match self.fault {
            Some(Fault::ResetAfter(_)) => Ok(Ending::Reset),
            Some(Fault::CutAfter(_) | Fault::WrongLength) => Ok(Ending::Cut),
            Some(Fault::HangAfter(_)) => wire.wait_for_leaving().await,
            _ => wire.finish().await.map(|()| Ending::Kept),
        }
    }

    async fn stream(&mut self, shape: &Shape<'_>, wire: &mut Wire<'_>) -> Result<Ending, Left> {
        let promised = (self.fault == Some(Fault::WrongLength)).then_some(WRONG_LENGTH_STREAM_BYTES);
        wire.head(&Head::stream(promised)).await?;
        if !self.script.first_token.is_zero() {
            wire.flush().await?;
            wire.wait_until(Instant::now() + self.first_token()).await?;
        }
        if let Some(ending) = self.meet(0, shape, wire).await? {
            return Ok(ending);
        }
        let mut event = Vec::with_capacity(EVENT_BYTES_USUAL);
        for choice in 0..shape.choices {
            event.clear();
            shape.push_opening(choice, &mut event);
            self.send(&event, wire).await?;
        }
        let started = Instant::now();
        for index in 0..shape.text.tokens() {
            if self.script.token_rate > 0 && index > 0 {
                wire.wait_until(started + self.spacing(index)).await?;
            }
            for choice in 0..shape.choices {
                event.clear();
                shape.push_token(choice, index, &mut event);
                // Before it is known whether the client was still there: it may have read what was written.
                self.under_way.tokens_sent += 1;
                self.send(&event, wire).await?;
            }
            if let Some(ending) = self.meet(index + 1, shape, wire).await? {
                return Ok(ending);
            }
        }
        self.end_stream(shape, event, wire).await
    }

    async fn end_stream(
        &self,
        shape: &Shape<'_>,
        mut event: Vec<u8>,
        wire: &mut Wire<'_>,
    ) -> Result<Ending, Left> {
        event.clear();
        (0..shape.choices).for_each(|choice| shape.push_closing(choice, &mut event));
        self.send(&event, wire).await?;
        event.clear();
        shape.push_usage_event(&mut event);
        event.extend_from_slice(shape.last());
        wire.body(&event).await?;
        if self.fault == Some(Fault::WrongLength) {
            wire.flush().await?;
            return Ok(Ending::Cut);
        }
        wire.finish().await?;
        Ok(Ending::Kept)
    }

    /// The fault due behind `sent` chunks, if any; `Some` ends the answer.
    async fn meet(&self, sent: u32, shape: &Shape<'_>, wire: &mut Wire<'_>) -> Result<Option<Ending>, Left> {
        let due = |k: u32| k.min(shape.text.tokens()) == sent;
        match self.fault {
            Some(Fault::ResetAfter(k)) if due(k) => {
                wire.flush().await?;
                Ok(Some(Ending::Reset))
            }
            Some(Fault::CutAfter(k)) if due(k) => {
                wire.flush().await?;
                Ok(Some(Ending::Cut))
            }
            Some(Fault::HangAfter(k)) if due(k) => {
                wire.flush().await?;
                wire.wait_for_leaving().await
            }
            Some(Fault::EndAfter(k)) if due(k) => {
                wire.finish().await?;
                Ok(Some(Ending::Kept))
            }
            Some(Fault::MalformedSseAfter(k)) if due(k) => {
                self.send(b"data: {\"id\":\"chatcmpl-mock\",\"choices\":[{\"del\n\n", wire).await?;
                self.send(b"this line is no field of an event\n\n", wire).await?;
                Ok(None)
            }
            Some(Fault::SseErrorAfter(k)) if due(k) => {
                let mut event = Vec::new();
                shape.push_error("the mock breaks its stream as its script says", &mut event);
                self.send(&event, wire).await?;
                wire.flush().await?;
                Ok(Some(Ending::Cut))
            }
            Some(Fault::Garbage) if sent == 0 => {
                wire.garbage().await?;
                Ok(Some(Ending::Cut))
            }
            _ => Ok(None),
        }
    }

    /// Sends one event: a write of its own, and room for others to run, as from a server that makes tokens.
    async fn send(&self, event: &[u8], wire: &mut Wire<'_>) -> Result<(), Left> {
        wire.body(event).await?;
        if !self.script.coalesce {
            wire.flush().await?;
            tokio::task::yield_now().await;
        }
        wire.still_there()
    }

    /// Silence before the first token, as busy as it was when this request came.
    fn first_token(&self) -> Duration {
        self.script.first_token_at(self.under_way.at_once)
    }

    /// When token `index` is due behind the first.
    fn spacing(&self, index: u32) -> Duration {
        let rate = u64::from(self.script.token_rate.max(1));
        Duration::from_nanos(u64::from(index) * 1_000_000_000 / rate)
    }

    /// How long a model would take until its last token.
    fn pause_before(&self, tokens: u32) -> Duration {
        let paced = self.script.token_rate > 0 && tokens > 1;
        self.first_token() + if paced { self.spacing(tokens - 1) } else { Duration::ZERO }
    }
}

/// `retry_after_s`: sent where there is one.
async fn refuse(
    form: Form,
    status: u16,
    retry_after_s: Option<u32>,
    wire: &mut Wire<'_>,
) -> Result<Ending, Left> {
    let retry_after = retry_after_s.map(|seconds| seconds.to_string());
    let body = render::refusal(form, status, &format!("the mock answers {status} as its script says"));
    let mut head = Head::whole(status, body.len());
    head.extra = retry_after.as_deref().map(|seconds| ("retry-after", seconds));
    wire.head(&head).await?;
    wire.body(&body).await?;
    wire.finish().await?;
    Ok(Ending::Kept)
}

async fn json(wire: &mut Wire<'_>, status: u16, body: &[u8]) -> Result<(), Left> {
    wire.head(&Head::whole(status, body.len())).await?;
    wire.body(body).await?;
    wire.finish().await
}

fn as_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with string keys always serialise")
}

/// How many bytes more than sent a wrong content-length promises.
const WRONG_LENGTH_BYTES: usize = 16;
/// A stream's wrong content-length: more than any test streams.
const WRONG_LENGTH_STREAM_BYTES: u64 = 1 << 40;
/// Small, so that a test can look at a vector; a request may ask for others.
const DIMENSIONS: u32 = 16;
/// More than any embedding model has.
const DIMENSIONS_MAX: u32 = 16_384;
/// A usual event fits without growing.
const EVENT_BYTES_USUAL: usize = 512;

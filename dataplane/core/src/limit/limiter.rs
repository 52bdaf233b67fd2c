//! The limiter of one adapter × model: samples and losses in, two limits out. It decides nothing about who
//! gets them.

use std::time::Duration;

use proto_core::model::Concurrency;
use proto_core::units::Moment;

use super::acked::Acked;
use super::agent::AgentStatus;
use super::aimd::{Aimd, CUT};
use super::ceiling::{Ceiling, Ceilings};
use super::gradient::{Gradient, Verdict};
use super::level::Level;
use super::signal::Signal;
use super::window::{Seen, Summary, Window};
use super::{Axis, Limits, Loss, Sample, Settings};

#[derive(Debug, Clone, PartialEq)]
pub struct Limiter {
    settings: Settings,
    requests: Level,
    tokens: Level,
    judge: Judge,
    signal: Signal,
    window: Window,
    /// Of all requests sent since the limit last fell, also those sent before it last grew: what is slow with
    /// less is slow.
    recent: Window,
    acked: Acked,
    /// Most in flight in the last window that saw any, requests and tokens.
    used: (f64, f64),
    /// Tokens of an average request.
    request_tokens: f64,
    /// Moving mean of the first token's delay, seconds.
    ttft_s: f64,
    is_calm: bool,
    bound_at: Moment,
    ticked_at: Moment,
    ceilings: Ceilings,
    agent: (AgentStatus, Option<u32>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Judge {
    Fixed,
    Aimd(Aimd),
    Gradient(Gradient),
}

impl Limiter {
    pub fn new(settings: Settings, now: Moment) -> Limiter {
        let requests_max = f64::from(settings.requests_max.max(1));
        let tokens_max = settings.tokens_max.map_or(f64::INFINITY, |most| most as f64);
        Limiter {
            settings,
            requests: Level::new(f64::from(settings.prior), requests_max),
            tokens: Level::new(tokens_max, tokens_max),
            judge: Judge::new(settings.kind),
            signal: Signal::new(),
            window: Window::new(now),
            recent: Window::new(now),
            acked: Acked::new(now),
            used: (0.0, 0.0),
            request_tokens: 1.0,
            ttft_s: 0.0,
            is_calm: true,
            bound_at: now,
            ticked_at: now,
            ceilings: Ceilings::default(),
            agent: (AgentStatus::Ready, None),
        }
    }

    /// The operator changed something. What was learned stays, within the new maximum.
    pub fn resize(&mut self, settings: Settings, now: Moment) {
        self.requests.resize(f64::from(settings.requests_max.max(1)));
        self.tokens.resize(settings.tokens_max.map_or(f64::INFINITY, |most| most as f64));
        if settings.kind != self.settings.kind {
            self.judge = Judge::new(settings.kind);
            self.window = Window::new(now);
        }
        self.settings = settings;
    }

    /// What may be in flight now: what was learned, under what provider and agent said.
    pub fn limits(&self, now: Moment) -> Limits {
        let limits = self.ceilings.apply(self.learned(), now);
        let (status, suggested) = self.agent;
        Limits { requests: status.effective(limits.requests, suggested, now), ..limits }
    }

    /// What was learned alone: what a warm start is given as its prior. At least one of each.
    pub fn learned(&self) -> Limits {
        if matches!(self.judge, Judge::Fixed) {
            let Settings { requests_max, tokens_max, .. } = self.settings;
            return Limits { requests: requests_max.max(1), tokens: tokens_max.unwrap_or(u64::MAX) };
        }
        // A float as large as `u64::MAX` or infinite becomes `u64::MAX`: not limited.
        Limits { requests: self.requests.value() as u32, tokens: self.tokens.value() as u64 }
    }

    /// When [`Limiter::limits`] changes though nothing happens: the end of a ceiling or of a grace.
    pub fn next_change(&self, now: Moment) -> Option<Moment> {
        [self.ceilings.changes_at(now), self.agent.0.changes_at(now)].into_iter().flatten().min()
    }

    /// An answer began (or came whole).
    pub fn on_sample(&mut self, sample: Sample) {
        if matches!(self.judge, Judge::Fixed) {
            return;
        }
        self.window.see(sample.requests_in_flight, sample.tokens_in_flight);
        if let Some(axis) = sample.bound {
            self.on_limit_bound(sample.now, axis);
        }
        let mean = sample.tokens_in_flight as f64 / f64::from(sample.requests_in_flight.max(1));
        self.request_tokens += MEAN_RATE * (mean.max(1.0) - self.request_tokens);
        let is_since = sample.dispatched_at >= self.window.opened_at;
        match sample.ttft {
            Some(ttft) => self.on_ttft(&sample, ttft.as_secs_f64(), is_since),
            None if is_since => self.window.count(),
            None => {}
        }
        self.close(sample.now);
    }

    fn on_ttft(&mut self, sample: &Sample, ttft_s: f64, is_since: bool) {
        self.acked.on_answer(sample.now);
        self.ttft_s += MEAN_RATE * (ttft_s - self.ttft_s);
        let (x, is_new_scale) = self.signal.on_sample(ttft_s, sample.prompt_tokens_uncached, self.is_calm);
        if is_new_scale {
            self.judge = Judge::new(self.settings.kind);
            self.window.start_again(sample.now);
            self.recent = Window::new(self.recent.opened_at);
            self.acked.forget_stay();
            return;
        }
        if is_since {
            self.window.add(sample, x);
        }
        if sample.dispatched_at >= self.recent.opened_at {
            self.recent.add(sample, x);
        }
        self.listen(sample.now);
    }

    /// A refusal for load, or a timeout. One cut for each epoch: what was sent before the last cut, or comes
    /// within the longer of a first token and `EPOCH_MIN` after it, tells of the limit before it.
    pub fn on_loss(&mut self, loss: Loss) {
        if matches!(self.judge, Judge::Fixed) {
            return;
        }
        self.window.is_lossy = true;
        self.window.see(loss.requests_in_flight, loss.tokens_in_flight);
        self.note_use();
        let epoch = Duration::from_secs_f64(self.ttft_s).max(EPOCH_MIN);
        let may_cut = |level: &Level| level.may_cut(loss.dispatched_at, loss.now, epoch);
        let (requests, tokens) = self.used;
        let mut is_cut = false;
        if loss.what.is_requests() && may_cut(&self.requests) {
            self.requests.cut_for_loss(requests, CUT, 1.0, loss.now);
            is_cut = true;
        }
        if loss.what.is_tokens() && may_cut(&self.tokens) {
            self.tokens.cut_for_loss(tokens, CUT, self.request_tokens, loss.now);
            is_cut = true;
        }
        if is_cut {
            self.judge.on_loss_cut();
            self.window = Window::new(loss.now);
            self.recent = Window::new(loss.now);
        }
    }

    /// What the provider said it will take. Of every kind of limiter.
    pub fn on_ceiling(&mut self, ceiling: Ceiling, now: Moment) {
        self.ceilings.on_ceiling(ceiling, now);
    }

    /// What the agent said of itself, and how much it would like. Of every kind of limiter.
    pub fn on_agent(&mut self, status: AgentStatus, suggested: Option<u32>) {
        self.agent = (status, suggested);
    }

    /// Somebody had to wait for this limit. Without it a limit does not grow.
    pub fn on_limit_bound(&mut self, now: Moment, axis: Axis) {
        self.window.bind(axis);
        self.bound_at = now;
    }

    /// Time passes; about once a second. A limit nobody needed for `IDLE` returns to the prior by halves,
    /// though not below what is used: what was learned long ago is worth no more.
    pub fn on_tick(&mut self, now: Moment) {
        let since = now.since(self.ticked_at.max(self.bound_at + IDLE));
        self.ticked_at = now;
        if since.is_zero() || self.window.is_bound() {
            return;
        }
        let share = 1.0 - 0.5f64.powf(since.as_secs_f64() / IDLE_HALF_LIFE.as_secs_f64());
        let used = f64::from(self.window.requests_peak);
        self.requests.drift(f64::from(self.settings.prior.max(1)).max(used), share);
    }

    /// A window asks for requests sent since it opened; where a queue is long, those are told only after all
    /// of it. So what is far beyond doubt is acted on at once.
    fn listen(&mut self, now: Moment) {
        let Some(seen) = self.recent.seen_at_once(self.requests.value()) else { return };
        self.recent = Window::new(self.recent.opened_at);
        if !self.judge.is_alarmed(seen) {
            self.acked.on_calm(seen.requests);
        } else if self.is_used(seen) {
            self.decide(seen, now);
            self.is_calm = false;
            self.note_use();
            self.window = Window::new(now);
        }
    }

    fn decide(&mut self, seen: Summary, now: Moment) -> Verdict {
        let acked = self.acked.share(seen.requests);
        let verdict = self.judge.judge(seen, self.is_used(seen), acked);
        self.lower(verdict, seen, now);
        if matches!(verdict, Verdict::Cut(_) | Verdict::Look(_)) {
            self.recent = Window::new(now);
        }
        verdict
    }

    fn is_used(&self, seen: Summary) -> bool {
        seen.requests >= self.requests.value() / 2.0
    }

    fn close(&mut self, now: Moment) {
        let verdict = match self.window.seen(now, self.requests.value()) {
            Seen::TooLittle => return,
            Seen::Answers => Verdict::Grow,
            Seen::Delays(summary) => self.decide(summary, now),
        };
        if verdict == Verdict::Grow && !self.window.is_lossy {
            if self.window.is_requests_bound {
                self.requests.grow(1.0);
            }
            if self.window.is_tokens_bound {
                self.tokens.grow(self.request_tokens);
            }
        }
        self.is_calm = matches!(verdict, Verdict::Grow | Verdict::Return);
        self.note_use();
        self.window = Window::new(now);
    }

    /// Delay cuts what binds; where neither limit does, requests.
    fn lower(&mut self, verdict: Verdict, seen: Summary, now: Moment) {
        let cuts_tokens = self.window.is_tokens_bound && self.tokens.value().is_finite();
        let cuts_requests = self.window.is_requests_bound || !cuts_tokens;
        match verdict {
            Verdict::Cut(factor) => {
                if cuts_requests {
                    self.requests.cut(seen.requests, factor, 1.0, now);
                }
                if cuts_tokens {
                    self.tokens.cut(seen.tokens, factor, self.request_tokens, now);
                }
            }
            Verdict::Look(factor) => {
                if cuts_requests {
                    self.requests.look(seen.requests, factor, 1.0, now);
                }
                if cuts_tokens {
                    self.tokens.look(seen.tokens, factor, self.request_tokens, now);
                }
            }
            Verdict::Undo => [&mut self.requests, &mut self.tokens].into_iter().for_each(Level::undo_cuts),
            Verdict::Grow | Verdict::Return | Verdict::Hold => {
                let is_back = verdict != Verdict::Hold;
                self.requests.end_look(is_back);
                self.tokens.end_look(is_back);
            }
        }
    }

    fn note_use(&mut self) {
        if self.window.requests_peak > 0 {
            self.used = (f64::from(self.window.requests_peak), self.window.tokens_peak as f64);
        }
    }
}

impl Judge {
    fn new(kind: Concurrency) -> Judge {
        match kind {
            Concurrency::Fixed => Judge::Fixed,
            Concurrency::Aimd => Judge::Aimd(Aimd::default()),
            Concurrency::Gradient => Judge::Gradient(Gradient::default()),
        }
    }

    fn on_loss_cut(&mut self) {
        if let Judge::Gradient(gradient) = self {
            gradient.on_loss_cut(CUT);
        }
    }

    fn is_alarmed(&self, seen: Summary) -> bool {
        matches!(self, Judge::Gradient(gradient) if gradient.is_alarmed(seen))
    }

    fn judge(&mut self, seen: Summary, is_used: bool, acked: Option<f64>) -> Verdict {
        match self {
            Judge::Fixed => Verdict::Hold,
            Judge::Aimd(aimd) => aimd.judge(seen),
            Judge::Gradient(gradient) => gradient.judge(seen, is_used, acked),
        }
    }
}

/// Weight of one sample in the moving means: ten samples of memory.
const MEAN_RATE: f64 = 0.1;
/// Refusals of one moment come in bursts: the least time between two cuts.
const EPOCH_MIN: Duration = Duration::from_secs(1);
/// How long a limit stays though nobody needs it: longer than the lull between two bursts of a person.
const IDLE: Duration = Duration::from_secs(60);
/// How fast it goes then.
const IDLE_HALF_LIFE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;

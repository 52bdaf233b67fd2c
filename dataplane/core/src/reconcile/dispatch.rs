//! What an `agent.dispatch` asks for. Reading names every mistake at once, each with its path; keys that are
//! not the fan-out's own belong to the request and go to every lane as they came.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proto_core::model::Qos;
use proto_core::units::{Permille, Picodollars};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::Fields;
use super::switch::Wishes;
use crate::dialect::json::quote;

/// A fan-out as it was asked for; valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// One lane each, 1 to [`TARGETS_MAX`].
    pub targets: Vec<Target>,
    pub policy: Policy,
    /// The policy is to be chosen ([`Dispatch::follow`]) by what matters to it.
    pub wishes: Option<Wishes>,
    pub budget: Budget,
    /// Answers that must say the same.
    pub quorum_min: u8,
    /// The part of all weight they must have.
    pub agree_min: Permille,
    /// How long a provisional answer holds; `None`: none are wanted.
    pub provisional: Option<Duration>,
    /// From the dispatch to the final answer.
    pub deadline: Duration,
    /// Where there is no consensus.
    pub otherwise: Otherwise,
    pub arbiter: Arbiter,
    /// Of a merge: the support a sentence needs.
    pub keep_min: Permille,
    /// Where no lane came to its end, what was cut short may be the answer.
    pub may_be_partial: bool,
    /// What the lanes say is passed on as it comes.
    pub is_streamed: bool,
    ask: Ask,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub persona_id: Box<str>,
    /// With the persona unique in its dispatch.
    pub clone_id: u64,
    /// `None`: what the dispatch says, else `auto`.
    pub model: Option<Box<str>>,
    pub system: Option<Box<str>>,
    /// Thousandths.
    pub weight: u32,
    /// `None`: the stream's.
    pub qos: Option<Qos>,
    pub is_champion: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    FirstWin,
    Consensus,
    WeightedMerge,
    Arbiter,
    Champion,
}

/// Of all lanes and the arbiter together; `None`: no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    pub tokens: Option<u64>,
    pub cost: Option<Picodollars>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// There is no answer.
    Fail,
    /// The answer of the heaviest group.
    Best,
    /// A model chooses.
    Arbiter,
}

/// A model that chooses between answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arbiter {
    pub model: Option<Box<str>>,
    pub cost_max: Picodollars,
}

/// The question all lanes get.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ask {
    model: Option<Box<str>>,
    /// A JSON list without its brackets.
    messages: Box<str>,
    /// `,"key":value` each.
    rest: Box<str>,
}

/// What is wrong with a dispatch: all of it, at most [`MISTAKES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join("; "))
    }
}

impl Policy {
    pub const ALL: [Policy; 5] =
        [Policy::FirstWin, Policy::Consensus, Policy::WeightedMerge, Policy::Arbiter, Policy::Champion];

    pub fn as_str(self) -> &'static str {
        match self {
            Policy::FirstWin => "first-win",
            Policy::Consensus => "consensus",
            Policy::WeightedMerge => "weighted-merge",
            Policy::Arbiter => "arbiter",
            Policy::Champion => "champion",
        }
    }
}

impl Otherwise {
    pub const ALL: [Otherwise; 3] = [Otherwise::Fail, Otherwise::Best, Otherwise::Arbiter];

    pub fn as_str(self) -> &'static str {
        match self {
            Otherwise::Fail => "fail",
            Otherwise::Best => "best",
            Otherwise::Arbiter => "arbiter",
        }
    }
}

impl Dispatch {
    /// From the `content` of an `agent.dispatch` message.
    pub fn parse(content: &str) -> Result<Dispatch, Mistakes> {
        let Ok(map) = serde_json::from_str::<BTreeMap<String, &RawValue>>(content) else {
            return Err(Mistakes(vec!["content: is not an object".into()]));
        };
        let mut mistakes = Vec::new();
        let mut fields = Fields::new(String::new(), map, &mut mistakes);
        let dispatch = read(&mut fields);
        match dispatch {
            Some(dispatch) if mistakes.is_empty() => Ok(dispatch),
            _ => {
                mistakes.truncate(MISTAKES_MAX);
                Err(Mistakes(mistakes))
            }
        }
    }

    /// Appends the body of a chat completion for one lane: a stream, the lane's model, its system message
    /// before all others, and every key of the dispatch that is not the fan-out's own.
    pub fn body(&self, lane: usize, out: &mut Vec<u8>) {
        let target = &self.targets[lane];
        let model = target.model.as_ref().or(self.ask.model.as_ref()).map_or("auto", |model| model);
        out.extend_from_slice(b"{\"model\":");
        quote(model, out);
        out.extend_from_slice(b",\"stream\":true,\"messages\":[");
        if let Some(system) = &target.system {
            out.extend_from_slice(b"{\"role\":\"system\",\"content\":");
            quote(system, out);
            out.extend_from_slice(if self.ask.messages.is_empty() { b"}" } else { b"}," });
        }
        out.extend_from_slice(self.ask.messages.as_bytes());
        out.push(b']');
        out.extend_from_slice(self.ask.rest.as_bytes());
        out.push(b'}');
    }

    /// The messages all lanes get: a JSON list without its brackets.
    pub fn messages(&self) -> &str {
        &self.ask.messages
    }

    /// Whether an arbiter may have to be asked.
    pub fn may_arbitrate(&self) -> bool {
        self.policy == Policy::Arbiter || self.otherwise == Otherwise::Arbiter
    }

    /// The policy was chosen for it.
    pub fn follow(&mut self, policy: Policy) {
        self.policy = policy;
        // Whoever did not choose consensus did not choose one that its targets can never reach.
        let all = u8::try_from(self.targets.len()).unwrap_or(u8::MAX);
        self.quorum_min = self.quorum_min.min(all);
    }

    pub fn weight(&self) -> u64 {
        self.targets.iter().map(|target| u64::from(target.weight)).sum()
    }
}

fn read(fields: &mut Fields<'_, '_>) -> Option<Dispatch> {
    // Who wrote the frame says it again here; its session is the frame's.
    fields.take("session_id");
    let targets = read_targets(fields);
    let (policy, wishes) = read_policy(fields);
    let budget = read_budget(fields);
    let mut limits = (
        fields.whole("quorum_min", 1, TARGETS_MAX as u64),
        fields.permille("agree_min"),
        Some(EXPIRY_DEFAULT),
    );
    read_provisional(fields, &mut limits);
    let otherwise =
        fields.word("otherwise", &Otherwise::ALL.map(|otherwise| (otherwise.as_str(), otherwise)));
    let deadline = fields.whole("deadline_ms", DEADLINE_MS_MIN, DEADLINE_MS_MAX);
    let cost_max = fields.usd("arbiter_max_usd");
    let arbiter = Arbiter {
        model: fields.name("arbiter_model", NAME_BYTES_MAX),
        cost_max: cost_max.unwrap_or(ARBITER_COST_DEFAULT),
    };
    let keep_min = fields.permille("keep_min").unwrap_or(Permille(0));
    let may_be_partial = fields.flag("partial").unwrap_or(false);
    let is_streamed = fields.flag("stream").unwrap_or(true);
    let (quorum, agree_min, provisional) = limits;
    let is_consensus = policy == Policy::Consensus;
    let all = targets.as_ref().map_or(TARGETS_MAX, Vec::len);
    let quorum_min = quorum.map_or(QUORUM_DEFAULT, |quorum| quorum as u8);
    if is_consensus && usize::from(quorum_min) > all {
        fields.mistake("quorum_min", &format!("{quorum_min} can never agree: there are {all} targets"));
    }
    let ask = read_ask(fields)?;
    Some(Dispatch {
        targets: targets?,
        policy,
        wishes,
        budget,
        quorum_min,
        agree_min: agree_min.unwrap_or(AGREE_DEFAULT),
        provisional,
        deadline: deadline.map_or(DEADLINE_DEFAULT, Duration::from_millis),
        otherwise: otherwise.unwrap_or(if wishes.is_some() { Otherwise::Best } else { Otherwise::Fail }),
        arbiter,
        keep_min,
        may_be_partial,
        is_streamed,
        ask,
    })
}

fn read_policy(fields: &mut Fields<'_, '_>) -> (Policy, Option<Wishes>) {
    let policy = fields.word("policy", &Policy::ALL.map(|policy| (policy.as_str(), policy)));
    let Some(raw) = fields.take("adaptive") else { return (policy.unwrap_or(Policy::FirstWin), None) };
    if policy.is_some() {
        fields.mistake("adaptive", "and `policy` exclude each other");
    }
    let Some(mut own) = fields.inner("adaptive", raw) else { return (Policy::FirstWin, None) };
    let wishes = Wishes {
        time_pressure: own.permille("time_pressure"),
        quality: own.permille("quality"),
        cost_sensitivity: own.permille("cost_sensitivity"),
    };
    own.refuse_rest();
    (Policy::FirstWin, Some(wishes))
}

fn read_targets(fields: &mut Fields<'_, '_>) -> Option<Vec<Target>> {
    let list = fields.list("targets")?;
    if !(1..=TARGETS_MAX).contains(&list.len()) {
        fields.mistake("targets", &format!("has {}, not 1 to {TARGETS_MAX}", list.len()));
        return None;
    }
    let count = list.len();
    let mut read: Vec<(Target, Option<u64>, Option<bool>)> = Vec::with_capacity(count);
    for (at, raw) in list.into_iter().enumerate() {
        let Some(mut own) = fields.inner(&format!("targets[{at}]"), raw) else { continue };
        read.extend(read_target(&mut own));
        own.refuse_rest();
    }
    let champions = read.iter().filter(|(_, _, role)| *role == Some(true)).count();
    if champions > 1 {
        fields.mistake("targets", "has more than one champion");
    }
    let mut targets: Vec<Target> = Vec::with_capacity(count);
    let asked: Vec<u64> = read.iter().filter_map(|(_, clone, _)| *clone).collect();
    let mut free = (1..).filter(|clone| !asked.contains(clone));
    for (at, (mut target, clone, role)) in read.into_iter().enumerate() {
        target.clone_id = clone.unwrap_or_else(|| free.next().expect("there are more numbers than targets"));
        // Where nobody is named champion, it is the first that is not named a challenger.
        let is_first = !targets.iter().any(|before| before.is_champion);
        target.is_champion = role.unwrap_or(champions == 0 && is_first);
        let is_same =
            |before: &&Target| before.persona_id == target.persona_id && before.clone_id == target.clone_id;
        if let Some(twin) = targets.iter().find(is_same) {
            let what = format!("is {}#{} a second time", twin.persona_id, twin.clone_id);
            fields.mistake(&format!("targets[{at}]"), &what);
        }
        targets.push(target);
    }
    if !targets.is_empty() && !targets.iter().any(|target| target.is_champion) {
        fields.mistake("targets", "has challengers only");
    }
    Some(targets)
}

fn read_target(own: &mut Fields<'_, '_>) -> Option<(Target, Option<u64>, Option<bool>)> {
    let persona_id = own.name("persona_id", NAME_BYTES_MAX);
    if persona_id.is_none() && !own.has_failed("persona_id") {
        own.mistake("persona_id", "is missing");
    }
    let clone = own.whole("clone_id", 0, u64::from(u32::MAX));
    let qos = [("gold", Qos::Gold), ("silver", Qos::Silver), ("bronze", Qos::Bronze)];
    let role = own.word("role", &[("champion", true), ("challenger", false)]);
    let target = Target {
        persona_id: persona_id.unwrap_or_default(),
        clone_id: 0,
        model: own.name("model", NAME_BYTES_MAX),
        system: own.name("system", SYSTEM_BYTES_MAX),
        weight: own.thousandths("weight", 1, WEIGHT_MAX).unwrap_or(WEIGHT_ONE),
        qos: own.word("qos", &qos),
        is_champion: false,
    };
    Some((target, clone, role))
}

fn read_budget(fields: &mut Fields<'_, '_>) -> Budget {
    let Some(raw) = fields.take("budget") else { return Budget::default() };
    let Some(mut own) = fields.inner("budget", raw) else { return Budget::default() };
    let budget = Budget { tokens: own.whole("tokens", 1, TOKENS_MAX), cost: own.usd("dollars") };
    own.refuse_rest();
    budget
}

/// `provisional` is true, false, or an object that says when and for how long.
fn read_provisional(
    fields: &mut Fields<'_, '_>,
    (quorum, agree, expiry): &mut (Option<u64>, Option<Permille>, Option<Duration>),
) {
    let Some(raw) = fields.take("provisional") else { return };
    if let Ok(is_wanted) = bool::deserialize(raw) {
        *expiry = expiry.filter(|_| is_wanted);
        return;
    }
    let Some(mut own) = fields.inner("provisional", raw) else { return };
    *quorum = own.whole("quorum_min", 1, TARGETS_MAX as u64).or(*quorum);
    *agree = own.permille("agree_min").or(*agree);
    let ms = own.whole("expiry_ms", EXPIRY_MS_MIN, EXPIRY_MS_MAX);
    *expiry = ms.map(Duration::from_millis).or(*expiry);
    own.refuse_rest();
}

fn read_ask(fields: &mut Fields<'_, '_>) -> Option<Ask> {
    let model = fields.name("model", NAME_BYTES_MAX);
    let (prompt, messages) = (fields.take("prompt"), fields.take("messages"));
    let messages: Box<str> = match (prompt, messages) {
        (Some(_), Some(_)) => {
            fields.mistake("prompt", "and `messages` exclude each other");
            return None;
        }
        (None, None) => {
            fields.mistake("messages", "is missing, and so is `prompt`");
            return None;
        }
        (Some(prompt), None) => match serde_json::from_str::<String>(prompt.get()) {
            Ok(text) if !text.trim().is_empty() => {
                format!(r#"{{"role":"user","content":{}}}"#, prompt.get()).into()
            }
            _ => {
                fields.mistake("prompt", "is not text, or has nothing in it");
                return None;
            }
        },
        (None, Some(messages)) => {
            let inside = messages.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let inside = inside.map(str::trim).filter(|inside| !inside.is_empty());
            let Some(inside) = inside else {
                fields.mistake("messages", "is not a list, or has nothing in it");
                return None;
            };
            inside.into()
        }
    };
    let mut rest = Vec::new();
    for (key, raw) in fields.rest() {
        // A lane has one answer, and says what it took.
        if !matches!(key.as_str(), "n" | "stream_options") {
            rest.push(b',');
            quote(&key, &mut rest);
            rest.push(b':');
            rest.extend_from_slice(raw.get().as_bytes());
        }
    }
    let rest = String::from_utf8(rest).expect("keys and values are text");
    Some(Ask { model, messages, rest: rest.into() })
}

/// Lanes of one dispatch. Every pair of answers is compared, and each is a request of its own.
pub const TARGETS_MAX: usize = 16;

/// Mistakes told: more than anybody mends at once.
pub const MISTAKES_MAX: usize = 32;

/// Names of personas and models: what model names have.
pub const NAME_BYTES_MAX: usize = 128;

/// A persona's instructions: some 16,000 tokens; more belongs into the messages.
pub const SYSTEM_BYTES_MAX: usize = 64 << 10;

/// A weight of 1, in thousandths.
pub const WEIGHT_ONE: u32 = 1000;

/// 1000 times as heavy as usual: the others are not heard then, and sums stay small.
pub const WEIGHT_MAX: u32 = 1000 * WEIGHT_ONE;

/// Tokens of a budget: as many as a run may have.
pub const TOKENS_MAX: u64 = 1_000_000_000_000;

/// The least that can be called agreement.
pub const QUORUM_DEFAULT: u8 = 2;

/// What existing peers take for agreement.
pub const AGREE_DEFAULT: Permille = Permille(600);

/// What existing peers grant a provisional answer.
pub const EXPIRY_DEFAULT: Duration = Duration::from_millis(1500);

/// More often than ten times a second nobody can act on a revision.
pub const EXPIRY_MS_MIN: u64 = 100;
/// Longer than most answers take.
pub const EXPIRY_MS_MAX: u64 = 60_000;

/// What existing peers wait for a reconciliation.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// No model answers sooner.
pub const DEADLINE_MS_MIN: u64 = 100;
/// The longest any request takes by default.
pub const DEADLINE_MS_MAX: u64 = 600_000;

/// 0.10 USD, which existing peers allow an arbiter.
pub const ARBITER_COST_DEFAULT: Picodollars = Picodollars(Picodollars::PER_USD / 10);

#[cfg(test)]
mod tests;

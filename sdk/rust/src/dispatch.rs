//! One question to several at once, and how one answer comes of what they say.

use serde::Serialize;
use serde_json::{Map, Value};

/// A fan-out: who is asked, what, and who decides. `docs/fanout.md` has the policies.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Dispatch {
    pub targets: Vec<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Either this or `messages` among `more`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Any other key of a fan-out (`quorum_min`, `deadline_ms`, …) or of a chat completion, for all lanes.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// One who is asked: a lane of its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Target {
    pub persona_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// Of all lanes together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Budget {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Who is done first.
    FirstWin,
    /// What enough of them say.
    Consensus,
    WeightedMerge,
    /// A model decides where they differ.
    Arbiter,
    /// The first answers; the others run beside it and are compared.
    Champion,
}

impl Dispatch {
    /// The same prompt for each of `models`; who is done first wins.
    pub fn new<M: Into<String>>(prompt: impl Into<String>, models: impl IntoIterator<Item = M>) -> Dispatch {
        let targets = models.into_iter().map(Into::into).map(|model: String| Target {
            persona_id: model.clone(),
            model: Some(model),
            ..Target::default()
        });
        Dispatch { targets: targets.collect(), prompt: Some(prompt.into()), ..Dispatch::default() }
    }

    pub fn with_policy(self, policy: Policy) -> Dispatch {
        Dispatch { policy: Some(policy), ..self }
    }

    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Dispatch {
        self.more.insert(key.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_is_sent() {
        let dispatch =
            Dispatch::new("hi", ["a", "b"]).with_policy(Policy::WeightedMerge).with("quorum_min", 2);
        let targets = r#"[{"persona_id":"a","model":"a"},{"persona_id":"b","model":"b"}]"#;
        let expected =
            format!(r#"{{"targets":{targets},"policy":"weighted-merge","prompt":"hi","quorum_min":2}}"#);
        assert_eq!(serde_json::to_string(&dispatch).unwrap(), expected);
    }
}

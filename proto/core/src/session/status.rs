//! `control.status`: how an agent says that it takes more, less or nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::frame::{RawJson, Text, Window};
use crate::units::Picodollars;

use super::content::{self, WrongContent};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStatus {
    pub state: AgentState,
    /// `gpu_oom`, `queue_depth`, `maintenance`, or what the agent likes to say.
    pub reason: Option<Text>,
    /// The agent's own wish. What it leaves out is as wide as can be.
    pub suggested: Option<Window>,
    /// After a pause: how long work may still be sent.
    pub grace: Duration,
    pub retry_after_ms: Option<u64>,
    /// As it came: an object.
    pub metrics: Option<RawJson>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AgentState {
    Ready,
    Busy,
    Pause,
    Draining,
}

#[derive(Serialize, Deserialize)]
struct StatusJson {
    status: AgentState,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggested_window: Option<WindowJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Serialize, Deserialize)]
struct WindowJson {
    max_parallel: Option<u32>,
    max_tokens: Option<u64>,
    /// As documents have it.
    max_usd: Option<f64>,
    /// As frames have it; it counts where both are there.
    max_usd_micros: Option<u64>,
}

impl AgentStatus {
    pub fn new(state: AgentState) -> AgentStatus {
        AgentStatus {
            state,
            reason: None,
            suggested: None,
            grace: GRACE,
            retry_after_ms: None,
            metrics: None,
        }
    }

    /// Of the content of a `control.status`.
    pub fn parse(raw: &RawJson) -> Result<AgentStatus, WrongContent> {
        let said: StatusJson = content::parse(raw)?.ok_or(WrongContent)?;
        Ok(AgentStatus {
            state: said.status,
            reason: said.reason.map(Text::from),
            suggested: said.suggested_window.map(|window| window.window()).transpose()?,
            grace: said.grace_ms.map_or(GRACE, Duration::from_millis),
            retry_after_ms: said.retry_after_ms,
            metrics: said.metrics.map(|metrics| content::render(&metrics)),
        })
    }

    pub fn content(&self) -> RawJson {
        content::render(&StatusJson {
            status: self.state,
            reason: self.reason.as_ref().map(|reason| reason.as_str().to_owned()),
            suggested_window: self.suggested.map(WindowJson::of),
            grace_ms: (self.grace != GRACE)
                .then(|| u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX)),
            retry_after_ms: self.retry_after_ms,
            metrics: self.metrics.as_ref().and_then(|metrics| content::parse(metrics).ok().flatten()),
        })
    }
}

impl WindowJson {
    fn of(window: Window) -> WindowJson {
        WindowJson {
            max_parallel: Some(window.max_parallel),
            max_tokens: Some(window.max_tokens),
            max_usd: Some(window.max_usd_micros as f64 / MICROS_PER_USD),
            max_usd_micros: Some(window.max_usd_micros),
        }
    }

    fn window(self) -> Result<Window, WrongContent> {
        let micros_of_usd = |usd: f64| Picodollars::from_usd(usd).map(Picodollars::as_usd_micros_ceil);
        let from_usd = self.max_usd.map(|usd| micros_of_usd(usd).ok_or(WrongContent)).transpose()?;
        Ok(Window {
            max_parallel: self.max_parallel.unwrap_or(u32::MAX),
            max_tokens: self.max_tokens.unwrap_or(u64::MAX),
            max_usd_micros: self.max_usd_micros.or(from_usd).unwrap_or(u64::MAX),
        })
    }
}

/// What was sent before the pause was known is not in vain.
pub const GRACE: Duration = Duration::from_secs(5);

const MICROS_PER_USD: f64 = 1e6;

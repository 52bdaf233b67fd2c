//! How fast a source of tokens speaks, and what it says.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Of one answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) tokens: u32,
    /// A second; 0 is as fast as it goes.
    pub(crate) token_rate: u32,
}

/// Says when the next token is due.
pub(crate) struct Ticks(Option<Interval>);

impl Pace {
    pub(crate) fn ticks(self) -> Ticks {
        let every = (self.token_rate > 0).then(|| Duration::from_secs(1) / self.token_rate);
        Ticks(every.map(|every| {
            let mut interval = interval_at(Instant::now() + every, every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
            interval
        }))
    }
}

impl Ticks {
    pub(crate) async fn tick(&mut self) {
        if let Some(interval) = &mut self.0 {
            interval.tick().await;
        }
    }
}

/// A token in OpenAI's words, as the mock says them.
pub(crate) fn chunk(number: u32) -> Value {
    json!({
        "id": "chatcmpl-00000000000000f7", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "dialed-model", "system_fingerprint": "fp_mock",
        "choices": [{ "index": 0, "delta": { "content": format!("tok{number} ") }, "finish_reason": null }],
    })
}

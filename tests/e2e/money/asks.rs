//! What is asked: ten thousand requests drawn from one seed, with how their upstream fails and when their
//! caller has had enough.

use std::time::Duration;

use serde_json::json;

/// A model, its price in picodollars a token, and the text it is asked, always the same: short enough that
/// tokens are estimated as this upstream counts them.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    pub input_price: u64,
    pub output_price: u64,
    pub text: &'static str,
}

/// Whoever asks: their key, and what an operator says of them.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    pub name: &'static str,
    pub spec: &'static str,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub tenant: usize,
    /// What it calls.
    pub model: &'static str,
    pub text: &'static str,
    pub streamed: bool,
    /// For the mock.
    pub script: String,
    pub session: Option<usize>,
    pub deadline_ms: Option<u64>,
    pub leaves: Leaves,
}

/// When its caller goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    Never,
    /// Once so many tokens came.
    After(u64),
    /// Without having seen anything.
    Unanswered(Duration),
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub struct Dice(pub u64);

impl Model {
    /// As JSON, the way it stands in the body.
    fn messages(&self) -> String {
        messages(self.text)
    }

    /// As the mock counts them.
    pub fn prompt_tokens(&self) -> u64 {
        self.messages().len().div_ceil(4) as u64
    }

    pub fn cost(&self, input: u64, output: u64) -> u64 {
        input * self.input_price + output * self.output_price
    }

    /// USD for a million tokens, as an operator writes it: a millionth of it is a picodollar a token.
    pub fn price(&self) -> String {
        let usd = |pico: u64| format!("{}.{:06}", pico / 1_000_000, pico % 1_000_000);
        format!("{{ in: {}, out: {} }}", usd(self.input_price), usd(self.output_price))
    }
}

impl Ask {
    pub fn new(tenant: usize, model: &Model) -> Ask {
        Ask {
            tenant,
            model: model.name,
            text: model.text,
            streamed: true,
            script: String::new(),
            session: None,
            deadline_ms: None,
            leaves: Leaves::Never,
        }
    }

    pub fn body(&self) -> String {
        let messages = messages(self.text);
        format!(r#"{{"model":"{}","stream":{},"messages":{messages}}}"#, self.model, self.streamed)
    }

    /// Anything that may happen to a request.
    pub fn drawn(dice: &mut Dice, models: &[Model], sessions: usize) -> Ask {
        let mut ask = Ask::new(dice.below(3) as usize, &models[dice.below(models.len() as u64) as usize]);
        let tokens = 1 + dice.below(24);
        let after = 1 + dice.below(tokens);
        ask.streamed = dice.below(10) < 7;
        if dice.below(3) == 0 {
            let session = dice.below(sessions as u64) as usize;
            (ask.session, ask.tenant) = (Some(session), session % 3);
        }
        // Few enough faults that no breaker trips: what it refuses costs nothing and proves nothing.
        let fault = match dice.below(1000) {
            ..25 => format!("--cut-after-{after}"),
            25..35 => "--reset".into(),
            35..45 => format!("--sse-error-after-{after}"),
            45..75 => "--status-429".into(),
            75..200 if ask.streamed => {
                ask.leaves = Leaves::After(after);
                format!("--hang-after-{after}")
            }
            200..240 if ask.streamed => {
                ask.deadline_ms = Some(20 + dice.below(100));
                format!("--hang-after-{after}")
            }
            240..300 => {
                ask.leaves = Leaves::Unanswered(Duration::from_millis(dice.below(40)));
                "--hang".into()
            }
            _ => String::new(),
        };
        ask.script = format!("tokens-{tokens}{fault}");
        ask
    }
}

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

pub fn messages(text: &str) -> String {
    json!([{"role": "user", "content": text}]).to_string()
}

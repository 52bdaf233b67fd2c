//! What comes of a fan-out, gathered.

use std::collections::BTreeMap;

use sdk_rust::answer::{LaneEnd, Provisional};
use sdk_rust::{Answer, Done, Failure, Piece};
use serde_json::Value;

use crate::kit::within;

/// All of it, to its end.
#[derive(Debug, Default)]
pub struct Heard {
    /// What each persona said.
    pub said: BTreeMap<String, String>,
    pub ends: Vec<LaneEnd>,
    last: Option<Last>,
}

#[derive(Debug)]
enum Last {
    Done(Box<Done>),
    Error(Value),
}

impl Heard {
    /// The final message.
    pub fn done(&self) -> &Done {
        match &self.last {
            Some(Last::Done(done)) => done,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// What came in its place.
    pub fn error(&self) -> &Value {
        match &self.last {
            Some(Last::Error(content)) => content,
            other => panic!("no error: {other:?}"),
        }
    }
}

/// Everything until the end; pieces of a lane are in order.
pub async fn hear(answer: &mut Answer) -> Heard {
    let mut heard = Heard::default();
    let mut next: BTreeMap<(String, u64), u64> = BTreeMap::new();
    while heard.last.is_none() {
        let piece = match within("a piece", answer.next()).await {
            Err(Failure::Undecided { content, .. }) => {
                heard.last = Some(Last::Error(*content));
                break;
            }
            piece => piece.expect("no refusal").expect("it ends with its last message"),
        };
        match piece {
            Piece::Lane(text) => {
                let seq = next.entry((text.persona_id.clone(), text.clone_id)).or_insert(text.seq);
                assert_eq!(text.seq, *seq, "of {}", text.persona_id);
                *seq += 1;
                heard.said.entry(text.persona_id).or_default().push_str(&text.data);
            }
            Piece::LaneEnd(end) => heard.ends.push(end),
            Piece::Done(done) => heard.last = Some(Last::Done(done)),
            Piece::Provisional(_) | Piece::Other { .. } => {}
            other => panic!("no word of a fan-out: {other:?}"),
        }
    }
    heard
}

/// The next provisional answer; what is said meanwhile is passed over.
pub async fn until_provisional(answer: &mut Answer) -> Provisional {
    loop {
        if let Piece::Provisional(provisional) = running(answer).await {
            return provisional;
        }
    }
}

pub async fn until_end_of(answer: &mut Answer, persona: &str) {
    while !matches!(running(answer).await, Piece::LaneEnd(end) if end.persona_id == persona) {}
}

/// Content of the next message of this kind.
pub async fn until_kind(answer: &mut Answer, wanted: &str) -> Value {
    loop {
        match running(answer).await {
            Piece::Other { kind, content } if kind == wanted => return content,
            _ => {}
        }
    }
}

async fn running(answer: &mut Answer) -> Piece {
    match piece(answer).await {
        Piece::Done(done) => panic!("it is over: {done:?}"),
        piece => piece,
    }
}

async fn piece(answer: &mut Answer) -> Piece {
    within("a piece", answer.next()).await.expect("no refusal").expect("it ends with its last message")
}

/// The mock's answer of so many tokens.
pub fn words(count: u32) -> String {
    (1..=count).map(|at| format!("tok{at}")).collect::<Vec<_>>().join(" ")
}

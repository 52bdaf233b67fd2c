use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto_core::frame::{Code, RawJson};
use proto_core::session::{AgentState, Ended, Event, Message, Refusal, StreamKey};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::far::{Far, TERMS, Terms};
use crate::session::clock;

/// The far end asks: a chat of one message.
async fn ask(far: &Far, prompt: &str) -> StreamKey {
    let body = json!({"messages": [{"role": "user", "content": prompt}]}).to_string();
    let message = Message::new("completion", RawJson::parse(body).unwrap()).last();
    let (to, opened) = oneshot::channel();
    far.act(move |machine| {
        let stream = machine.open(None, clock::now()).expect("a stream");
        machine.send(stream, message, clock::now()).expect("room");
        to.send(stream).expect("the test waits");
    })
    .await;
    opened.await.unwrap()
}

/// What comes on a stream until its last message, and that one.
async fn answer(far: &mut Far, of: StreamKey) -> (String, Value) {
    let mut text = String::new();
    far.wait(|event| match event {
        Event::Message { stream, message, .. } if stream == of => {
            let content: Value = serde_json::from_str(message.content.as_str()).unwrap();
            if message.is_last {
                return Some((std::mem::take(&mut text), content));
            }
            text.push_str(content["text"].as_str().unwrap());
            None
        }
        _ => None,
    })
    .await
}

fn options() -> Options {
    Options::default()
}

#[tokio::test]
async fn work_that_comes_is_answered_over_the_connection_that_was_dialed() {
    let mut far = Far::new(TERMS);
    let dial = far.dial();
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let adapter = Adapter::new("parrot", echo);
        adapter.serve_over(dial, &options(), async { drop(ended.await) }).await
    });
    let health = far.wait(|event| match event {
        Event::Control(frame) => Some(frame),
        _ => None,
    });
    let health = health.await;
    assert_eq!(health.payload.kind.as_str(), "adapter.health");
    assert!(health.payload.content.as_str().contains(r#""adapter_id":"parrot""#));
    let (first, second) = (ask(&far, "one two three").await, ask(&far, "four").await);
    let (text, last) = answer(&mut far, first).await;
    assert_eq!(text, "one two three");
    assert_eq!(last["usage"]["completion_tokens"], 3);
    // Answers run at once: the order of their ends is open.
    far.act(move |machine| {
        assert!(machine.id(second).is_none_or(|id| id.as_str().starts_with('~')));
    })
    .await;
    end.send(()).unwrap();
    let draining = far.wait(|event| match event {
        Event::Status(status) => Some(status.state),
        _ => None,
    });
    assert_eq!(draining.await, AgentState::Draining);
    let over = far.wait(|event| match event {
        Event::Closed(ended) => Some(ended),
        _ => None,
    });
    assert_eq!(over.await, Ended::ByPeer);
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_nobody_waits_for_is_dropped_and_a_refusal_is_told() {
    struct Told(Arc<AtomicBool>, Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            self.1.notify_one();
        }
    }
    let mut far = Far::new(TERMS);
    let dial = far.dial();
    let (is_dropped, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (flag, notify) = (Arc::clone(&is_dropped), Arc::clone(&dropped));
    let serving = tokio::spawn(async move {
        let adapter = Adapter::new("slow", move |request: Request, reply: Reply| {
            let told = Told(Arc::clone(&flag), Arc::clone(&notify));
            async move {
                if request.body["messages"][0]["content"] == "no" {
                    return Err(Refusal::new(Code::Budget, "not for that"));
                }
                let _told = told;
                reply.text("begun").await.expect("somebody waits");
                std::future::pending().await
            }
        });
        adapter.serve_over(dial, &options(), std::future::pending()).await
    });
    far.wait(|event| matches!(event, Event::Control(_)).then_some(())).await;
    let stream = ask(&far, "go on for ever").await;
    far.wait(|event| matches!(event, Event::Message { .. }).then_some(())).await;
    assert!(!is_dropped.load(Ordering::Relaxed));
    far.act(move |machine| {
        machine.reset(stream, Refusal::new(Code::Preempt, "gone"), clock::now());
    })
    .await;
    dropped.notified().await;
    let refused = ask(&far, "no").await;
    let code = far.wait(|event| match event {
        Event::Reset { stream, refusal, by_peer: true } if stream == refused => Some(refusal.code),
        _ => None,
    });
    assert_eq!(code.await, Code::Budget);
    serving.abort();
}

#[tokio::test]
async fn a_session_that_is_lost_for_good_is_opened_again() {
    let mut far = Far::new(Terms { is_resumable: false, ..TERMS });
    let dial = far.dial();
    let serving = tokio::spawn(async move {
        Adapter::new("parrot", echo).serve_over(dial, &options(), std::future::pending()).await
    });
    far.wait(|event| matches!(event, Event::Control(_)).then_some(())).await;
    far.cut().await;
    far.wait(|event| matches!(event, Event::Closed(_)).then_some(())).await;
    far.wait(|event| matches!(event, Event::Control(_)).then_some(())).await;
    let stream = ask(&far, "still there").await;
    assert_eq!(answer(&mut far, stream).await.0, "still there");
    assert_eq!(far.dialed.load(Ordering::Relaxed), 2);
    serving.abort();
}

#[tokio::test]
async fn one_that_may_not_attach_is_told_at_once() {
    let far = Far::new(Terms { refuses: true, ..TERMS });
    let refused = Adapter::new("parrot", echo);
    let refused = refused.serve_over(far.dial(), &options(), std::future::pending()).await;
    assert!(matches!(refused, Err(Failure::Refused { code: Code::Sec, .. })), "{refused:?}");
    assert_eq!(far.dialed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn how_it_is_can_be_said_from_elsewhere() {
    let mut far = Far::new(TERMS);
    let dial = far.dial();
    let adapter = Adapter::new("parrot", echo);
    let status = adapter.status();
    let serving =
        tokio::spawn(async move { adapter.serve_over(dial, &options(), std::future::pending()).await });
    far.wait(|event| matches!(event, Event::Control(_)).then_some(())).await;
    for (say, expected) in [
        (StatusTeller::busy as fn(&StatusTeller), AgentState::Busy),
        (StatusTeller::pause, AgentState::Pause),
        (StatusTeller::ready, AgentState::Ready),
    ] {
        say(&status);
        let told = far.wait(|event| match event {
            Event::Status(status) => Some(status.state),
            _ => None,
        });
        assert_eq!(told.await, expected);
    }
    serving.abort();
}

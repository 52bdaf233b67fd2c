use std::sync::atomic::Ordering;
use std::time::Duration;

use proto_core::frame::{Code, Window};
use proto_core::session::{Ended, Event};
use serde_json::json;

use super::clock;
use crate::far::{Far, TERMS, Terms, WIDE};
use crate::{Failure, Options, Piece};

fn is_over(event: Event) -> Option<Ended> {
    match event {
        Event::Closed(ended) => Some(ended),
        _ => None,
    }
}

#[tokio::test]
async fn requests_share_a_session_and_each_gets_its_own_answer_in_order() {
    let mut far = Far::new(TERMS);
    let client = far.client(Options::default()).await.unwrap();
    let mut answers = Vec::new();
    for at in 0..20 {
        answers.push(client.ask(format!("{at}")).await.unwrap());
    }
    let mut asked = Vec::new();
    for _ in 0..20 {
        asked.push(far.request().await);
    }
    for piece in 0..5 {
        for (stream, prompt) in &asked {
            let prompt: serde_json::Value = serde_json::from_str(prompt).unwrap();
            far.text(*stream, &format!("{}:{piece} ", prompt["prompt"].as_str().unwrap())).await;
        }
    }
    for (stream, _) in asked.iter().rev() {
        far.last(*stream).await;
    }
    for (at, answer) in answers.into_iter().enumerate() {
        let done = answer.whole().await.unwrap();
        let expected: String = (0..5).map(|piece| format!("{at}:{piece} ")).collect();
        assert_eq!((done.text, done.model_used.as_str(), done.tokens_out), (expected, "m", 2));
    }
    client.finish().await.unwrap();
    assert_eq!(far.wait(is_over).await, Ended::ByPeer);
}

#[tokio::test]
async fn a_lost_connection_costs_nothing_and_repeats_nothing() {
    let mut far = Far::new(TERMS);
    let client = far.client(Options::default()).await.unwrap();
    let mut answer = client.ask("count").await.unwrap();
    let (stream, _) = far.request().await;
    let mut text = String::new();
    for at in 0..40 {
        if at % 10 == 5 {
            far.cut().await;
        }
        far.text(stream, &format!("{at} ")).await;
        if at % 3 == 0 {
            let Some(Piece::Text(piece)) = answer.next().await.unwrap() else { panic!("text") };
            text.push_str(&piece);
        }
    }
    // A request while there is no connection goes out with the next one.
    far.cut().await;
    let second = client.ask("again").await.unwrap();
    far.last(stream).await;
    while let Some(piece) = answer.next().await.unwrap() {
        match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Done(done) => assert_eq!(done.text, text),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(text, (0..40).map(|at| format!("{at} ")).collect::<String>());
    let (stream, prompt) = far.request().await;
    assert!(prompt.contains("again"));
    far.last(stream).await;
    second.whole().await.unwrap();
    let resumes = client.resumes() as usize;
    assert!((1..far.dialed.load(Ordering::Relaxed)).contains(&resumes), "{resumes} resumes");
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % most
    }
}

#[tokio::test]
async fn wherever_connections_break_every_answer_is_whole() {
    let mut resumes = 0;
    for seed in 0..40 {
        let (mut dice, mut far) = (Dice(seed), Far::new(TERMS));
        let client = far.client(Options::default()).await.unwrap();
        let mut answers = Vec::new();
        for at in 0..8 {
            answers.push(client.ask(format!("{at}")).await.unwrap());
        }
        let mut open = Vec::new();
        for _ in 0..8 {
            let (stream, content) = far.request().await;
            let asked: serde_json::Value = serde_json::from_str(&content).unwrap();
            open.push((stream, asked["prompt"].as_str().unwrap().to_owned(), 0));
        }
        let readers: Vec<_> = answers.into_iter().map(|answer| tokio::spawn(answer.whole())).collect();
        while !open.is_empty() {
            let at = dice.below(open.len() as u64) as usize;
            let (stream, prompt, said) = &mut open[at];
            if *said == 10 {
                far.last(*stream).await;
                open.swap_remove(at);
            } else {
                far.text(*stream, &format!("{prompt}.{said} ")).await;
                *said += 1;
            }
            match dice.below(12) {
                0 => far.cut().await,
                1 => tokio::task::yield_now().await,
                _ => {}
            }
        }
        for (at, reader) in readers.into_iter().enumerate() {
            let expected: String = (0..10).map(|piece| format!("{at}.{piece} ")).collect();
            let done = reader.await.unwrap();
            assert_eq!(done.map(|done| done.text), Ok(expected), "seed {seed}, answer {at}");
        }
        resumes += client.resumes();
    }
    assert!(resumes >= 40, "{resumes} connections were made good");
}

#[tokio::test]
async fn a_connection_that_went_silent_is_made_anew() {
    // The other end beats twice as often: it is missed after three quarters.
    let mut far = Far::new(Terms { idle: Duration::from_secs(2), ..TERMS });
    let client = far.client(Options::default()).await.unwrap();
    let answer = client.ask("hi").await.unwrap();
    let (stream, _) = far.request().await;
    far.mute().await;
    far.text(stream, "said to nobody").await;
    far.wait(|event| matches!(event, Event::Resumed).then_some(())).await;
    far.last(stream).await;
    assert_eq!(answer.whole().await.unwrap().text, "said to nobody");
    assert_eq!(client.resumes(), 1);
}

#[tokio::test]
async fn what_the_window_has_no_place_for_waits_for_one() {
    let window = Window { max_parallel: 1, ..WIDE };
    let mut far = Far::new(Terms { window, ..TERMS });
    let patience = Duration::from_millis(50);
    let client = far.client(Options { patience, ..Options::default() }).await.unwrap();
    assert_eq!(client.window(), window);
    let first = client.ask("first").await.unwrap();
    let (stream, _) = far.request().await;
    let crowded = client.ask("second").await;
    assert!(matches!(crowded, Err(Failure::Crowded(_))), "{crowded:?}");
    far.last(stream).await;
    first.whole().await.unwrap();
    let third = client.ask("third").await.unwrap();
    assert!(far.request().await.1.contains("third"), "the second was given up");
    // A wider window lets the next one in beside it.
    let wider = Window { max_parallel: 2, ..WIDE };
    far.act(move |machine| machine.set_window(wider, clock::now())).await;
    assert_eq!(client.window_changed(window).await.unwrap(), wider);
    let fourth = client.ask("fourth").await.unwrap();
    assert!(far.request().await.1.contains("fourth"));
    drop((third, fourth));
}

#[tokio::test]
async fn an_answer_nobody_wants_is_cancelled_at_the_other_end() {
    let mut far = Far::new(TERMS);
    let client = far.client(Options::default()).await.unwrap();
    let mut answer = client.ask("long").await.unwrap();
    let (stream, _) = far.request().await;
    far.text(stream, "some").await;
    assert_eq!(answer.next().await.unwrap(), Some(Piece::Text("some".into())));
    drop(answer);
    let reset = far.wait(|event| match event {
        Event::Reset { stream, refusal, by_peer: true } => Some((stream, refusal.code)),
        _ => None,
    });
    assert_eq!(reset.await, (stream, Code::Preempt));
    // Others go on.
    let other = client.ask("short").await.unwrap();
    let (stream, _) = far.request().await;
    far.last(stream).await;
    assert_eq!(other.whole().await.unwrap().tokens_out, 2);
}

#[tokio::test]
async fn a_session_that_is_refused_says_why() {
    let far = Far::new(Terms { refuses: true, ..TERMS });
    let refused = far.client(Options::default()).await;
    let Err(Failure::Refused { code, reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((code, reason.as_str()), (Code::Sec, "go away"));
}

#[tokio::test]
async fn a_request_that_is_refused_says_why_and_when_again() {
    let mut far = Far::new(TERMS);
    let client = far.client(Options::default()).await.unwrap();
    let mut answer = client.complete(&json!({"messages": []})).await.unwrap();
    let (stream, content) = far.request().await;
    assert_eq!(content, r#"{"messages":[]}"#);
    far.act(move |machine| {
        let refusal = proto_core::session::Refusal {
            code: Code::Window,
            reason: "full".into(),
            retry_after_ms: Some(250),
            resume_token: None,
        };
        machine.reset(stream, refusal, clock::now());
    })
    .await;
    let failure = answer.next().await.unwrap_err();
    assert!(failure.is_passing());
    let expected = Failure::Refused {
        code: Code::Window,
        reason: "full".into(),
        retry_after: Some(Duration::from_millis(250)),
        resume: None,
    };
    assert_eq!(failure, expected);
    assert_eq!(answer.next().await, Ok(None));
}

#[tokio::test]
async fn without_a_token_a_lost_connection_is_the_end_of_all_of_it() {
    let mut far = Far::new(Terms { is_resumable: false, ..TERMS });
    let client = far.client(Options::default()).await.unwrap();
    let mut answer = client.ask("hi").await.unwrap();
    far.request().await;
    far.cut().await;
    assert!(matches!(answer.next().await, Err(Failure::Lost(_))));
    let after = client.ask("more").await;
    assert!(matches!(after, Err(Failure::Lost(_))), "{after:?}");
    assert_eq!(far.dialed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn silence_has_an_end() {
    let mut far = Far::new(TERMS);
    let silence = Duration::from_millis(20);
    let client = far.client(Options { silence, ..Options::default() }).await.unwrap();
    let mut answer = client.ask("hi").await.unwrap();
    let (stream, _) = far.request().await;
    assert!(matches!(answer.next().await, Err(Failure::Timeout(_))));
    let reset = far.wait(|event| match event {
        Event::Reset { stream, .. } => Some(stream),
        _ => None,
    });
    assert_eq!(reset.await, stream, "nobody waits for it any more");
}

#[tokio::test]
async fn the_session_finishes_when_nobody_holds_it_any_more() {
    let mut far = Far::new(TERMS);
    let client = far.client(Options::default()).await.unwrap();
    let answer = client.ask("hi").await.unwrap();
    drop(client);
    // The answer still holds it.
    let (stream, _) = far.request().await;
    far.last(stream).await;
    answer.whole().await.unwrap();
    assert_eq!(far.wait(is_over).await, Ended::ByPeer);
}

#[tokio::test]
async fn a_stream_nobody_asked_for_is_refused() {
    let mut far = Far::new(TERMS);
    let client = far.client(Options::default()).await.unwrap();
    far.act(|machine| {
        let stream = machine.open(None, clock::now()).expect("a stream");
        let content = proto_core::frame::RawJson::NULL;
        let message = proto_core::session::Message::new("completion", content).last();
        machine.send(stream, message, clock::now()).expect("room");
    })
    .await;
    let refused = far.wait(|event| match event {
        Event::Reset { refusal, by_peer: true, .. } => Some(refusal.code),
        _ => None,
    });
    assert_eq!(refused.await, Code::Policy);
    drop(client);
}

#[tokio::test]
async fn a_request_that_is_too_long_to_be_sent_gives_its_place_back() {
    let window = Window { max_parallel: 1, ..WIDE };
    let mut far = Far::new(Terms { window, ..TERMS });
    let client = far.client(Options::default()).await.unwrap();
    let refused = client.ask("x".repeat(17 << 20)).await.unwrap().whole().await;
    assert!(matches!(refused, Err(Failure::Unsendable(_))), "{refused:?}");
    let next = client.ask("hi").await.unwrap();
    let (stream, _) = far.request().await;
    far.last(stream).await;
    next.whole().await.unwrap();
}

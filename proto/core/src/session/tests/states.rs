//! Every state of a session, and of the halves of a stream, with everything that can happen to it.

use super::kit::{End, Pair, at, say, window};
use super::*;
use crate::frame::{Code, FlagSet, Frame, RawJson};
use crate::units::Moment;

const NOW: Moment = Moment(1_000_000_000);

/// Inputs, and what they do.
type Rows = &'static [(&'static str, &'static str)];

/// A state, its phase, and what each input makes of it: the phase after it, what the application is told,
/// and what is said (flags; `*` on a stream). Inputs that are not listed change nothing and say nothing.
const TABLE: &[(&str, &str, Rows)] = &[
    (
        "dialer opening",
        "Opening",
        &[
            ("SYN, resumed, refuse", "Closed | Refused | RST"),
            ("SYN+ACK", "Open | Granted | ACK"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("WINDOW", "Opening | Window |"),
            ("STATUS", "Opening | Status |"),
            ("message", "Opening | StreamOpened Message |"),
            ("malformed", "Opening | | CTRL"),
            ("finish", "Closed | Finished | FIN"),
            ("disconnect", "Closed | Lost |"),
        ],
    ),
    (
        "dialer open",
        "Open",
        &[
            ("SYN, SYN+ACK, resumed, refuse", "Closed | Refused | RST"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("WINDOW", "Open | Window |"),
            ("STATUS", "Open | Status |"),
            ("message", "Open | StreamOpened Message |"),
            ("malformed", "Open | | CTRL"),
            ("finish", "Closed | Finished | FIN"),
            ("disconnect", "Suspended | Suspended |"),
        ],
    ),
    (
        "dialer suspended",
        "Suspended",
        &[
            ("refuse", "Closed | Refused | RST"),
            ("finish", "Closed | Finished |"),
            ("redial", "Resuming | | SYN"),
        ],
    ),
    (
        "dialer resuming",
        "Resuming",
        &[
            ("SYN, SYN+ACK, refuse", "Closed | Refused | RST"),
            ("resumed", "Open | Granted Resumed | ACK"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("WINDOW", "Resuming | Window |"),
            ("STATUS", "Resuming | Status |"),
            ("message", "Resuming | StreamOpened Message |"),
            ("malformed", "Resuming | | CTRL"),
            ("disconnect", "Suspended | |"),
        ],
    ),
    (
        "acceptor awaiting",
        "Opening",
        &[
            ("SYN", "Opening | Opening |"),
            ("SYN+ACK, resumed, refuse", "Closed | Refused | RST"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("HB, ACK, WINDOW, STATUS, message", "Opening | PlainOpening |"),
            ("malformed", "Opening | | CTRL"),
            ("finish", "Closed | Finished | FIN"),
            ("disconnect", "Closed | Lost |"),
        ],
    ),
    (
        "acceptor asked",
        "Opening",
        &[
            ("SYN, SYN+ACK, resumed, refuse", "Closed | Refused | RST"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("malformed", "Opening | | CTRL"),
            ("grant", "Open | | ACK+SYN"),
            ("finish", "Closed | Finished | FIN"),
            ("disconnect", "Closed | Lost |"),
        ],
    ),
    (
        "acceptor open",
        "Open",
        &[
            ("SYN, SYN+ACK, resumed, refuse", "Closed | Refused | RST"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("WINDOW", "Open | Window |"),
            ("STATUS", "Open | Status |"),
            ("message", "Open | StreamOpened Message |"),
            ("malformed", "Open | | CTRL"),
            ("finish", "Closed | Finished | FIN"),
            ("disconnect", "Suspended | Suspended |"),
        ],
    ),
    (
        "acceptor finishing",
        "Finishing",
        &[
            ("SYN, SYN+ACK, resumed, refuse", "Closed | Refused | RST"),
            ("RST", "Closed | RefusedByPeer |"),
            ("FIN", "Closed | ByPeer |"),
            ("WINDOW", "Finishing | Window |"),
            ("STATUS", "Finishing | Status |"),
            ("message", "Finishing | | RST*"),
            ("malformed", "Finishing | | CTRL"),
            ("disconnect", "Suspended | Suspended |"),
        ],
    ),
    (
        "acceptor suspended",
        "Suspended",
        &[
            ("refuse", "Closed | Refused | RST"),
            ("finish", "Closed | Finished |"),
            ("reattach", "Open | Resumed | ACK+SYN"),
        ],
    ),
    ("closed", "Closed", &[]),
];

fn session_in(state: &str) -> End {
    let fresh = |session| End::new(session);
    let accept = || Session::accept(Settings::default(), "s".into(), at(0));
    let mut pair = Pair::open();
    let mut end = match state {
        "dialer opening" => fresh(kit::dialer()),
        "dialer open" => pair.dialer,
        "dialer suspended" | "dialer resuming" => {
            pair.dialer.session.on_disconnect(NOW);
            if state == "dialer resuming" {
                assert!(pair.dialer.session.redial(NOW));
            }
            pair.dialer
        }
        "acceptor awaiting" => fresh(accept()),
        "acceptor asked" => {
            let mut session = accept();
            session.on_frame(kit::dialer().poll_frame(at(0)).unwrap(), at(0));
            fresh(session)
        }
        "acceptor open" => pair.acceptor,
        "acceptor finishing" => {
            let stream = pair.acceptor.session.open(None, NOW).unwrap();
            pair.acceptor.session.send(stream, say("last words"), NOW).unwrap();
            pair.acceptor.session.finish(NOW);
            pair.acceptor
        }
        "acceptor suspended" => {
            pair.acceptor.session.on_disconnect(NOW);
            pair.acceptor
        }
        _ => {
            pair.acceptor.session.refuse(Refusal::new(Code::Draining, ""), NOW);
            pair.acceptor
        }
    };
    end.told();
    end.frames(NOW);
    end
}

fn frame(flags: FlagSet, kind: &'static str, stream_id: &str, content: &str) -> Frame {
    let place = Place { session_id: "s".into(), stream_id: stream_id.into(), msg_seq: 1, ..Place::default() };
    let mut frame = Message::new(kind, RawJson::parse(content.to_owned()).unwrap()).into_frame(place);
    frame.flags = flags.into();
    frame
}

const INPUTS: [&str; 17] = [
    "SYN",
    "SYN+ACK",
    "resumed",
    "RST",
    "FIN",
    "HB",
    "ACK",
    "WINDOW",
    "STATUS",
    "message",
    "malformed",
    "grant",
    "refuse",
    "finish",
    "disconnect",
    "redial",
    "reattach",
];

fn apply(end: &mut End, input: &str, is_dialer: bool) {
    let session = &mut end.session;
    let control = |flags, kind, content| frame(flags, kind, "", content);
    let both = FlagSet::SYN.union(FlagSet::ACK);
    let frame = match input {
        "SYN" => kit::dialer().poll_frame(NOW).unwrap(),
        "SYN+ACK" => control(both, kind::SYN, r#"{"resume_token":"t9"}"#),
        "resumed" => control(both, kind::SYN, r#"{"resume_token":"t9","resumed":true}"#),
        "RST" => control(FlagSet::RST, kind::ERROR, r#"{"code":"ESEC"}"#),
        "FIN" => control(FlagSet::FIN, kind::FIN, "null"),
        "HB" => control(FlagSet::HB, kind::HEARTBEAT, "null"),
        "ACK" => control(FlagSet::ACK, kind::ACK, "null"),
        "WINDOW" => control(FlagSet::CTRL, kind::WINDOW_UPDATE, "null"),
        "STATUS" => control(FlagSet::CTRL, kind::STATUS, r#"{"status":"BUSY"}"#),
        "message" => {
            let id = if is_dialer { "~5" } else { "s5" };
            frame(FlagSet::NONE, "note", id, "1")
        }
        "malformed" => {
            let malformed = crate::frame::Encoding::Json.decode(&"{".into()).unwrap_err();
            return session.on_malformed(&malformed, NOW);
        }
        "grant" => return session.grant(window(5), Some("t9".into()), NOW),
        "refuse" => return session.refuse(Refusal::new(Code::Draining, ""), NOW),
        "finish" => return session.finish(NOW),
        "disconnect" => return session.on_disconnect(NOW),
        "redial" => {
            session.redial(NOW);
            return;
        }
        _ => {
            let opening = ResumeOpening { received: vec![], resume_token: "t9".into() };
            session.reattach(opening, NOW);
            return;
        }
    };
    end.session.on_frame(frame, NOW);
}

/// The phase after it, what was told, and what is said.
fn outcome(end: &mut End) -> String {
    let events: Vec<String> = end.told().iter().map(|event| name(event).to_owned()).collect();
    let name = |frame: &Frame| {
        let flags: Vec<_> = frame.flags.names().collect();
        format!("{}{}", flags.join("+"), if frame.stream_id.is_empty() { "" } else { "*" })
    };
    let frames: Vec<_> = end.frames(NOW).iter().map(name).collect();
    let phase = format!("{:?}", end.session.phase());
    format!("{phase} | {} | {}", events.join(" "), frames.join(" "))
        .replace("|  |", "| |")
        .trim_end()
        .to_owned()
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Opening { is_plain: true, .. } => "PlainOpening",
        Event::Opening { resume: Some(_), .. } => "Claim",
        Event::Opening { .. } => "Opening",
        Event::Granted { .. } => "Granted",
        Event::Resumed => "Resumed",
        Event::StreamOpened { .. } => "StreamOpened",
        Event::Message { .. } => "Message",
        Event::Warned { .. } => "Warned",
        Event::Reset { .. } => "Reset",
        Event::StreamClosed { .. } => "StreamClosed",
        Event::Room { .. } => "Room",
        Event::Window(_) => "Window",
        Event::Status(_) => "Status",
        Event::Control(_) => "Control",
        Event::Suspended => "Suspended",
        Event::Closed(Ended::Refused(_)) => "Refused",
        Event::Closed(Ended::RefusedByPeer(_)) => "RefusedByPeer",
        Event::Closed(Ended::Finished) => "Finished",
        Event::Closed(Ended::ByPeer) => "ByPeer",
        Event::Closed(Ended::Idle) => "Idle",
        Event::Closed(Ended::Lost) => "Lost",
    }
}

#[test]
fn every_input_in_every_state_of_a_session_does_what_the_table_says() {
    for (state, phase, rows) in TABLE {
        for input in INPUTS {
            let mut end = session_in(state);
            apply(&mut end, input, state.starts_with("dialer"));
            let listed = rows.iter().find(|(inputs, _)| inputs.split(", ").any(|one| one == input));
            let expected = listed.map_or(format!("{phase} | |"), |(_, outcome)| (*outcome).to_owned());
            assert_eq!(outcome(&mut end), expected, "{state}, {input}");
        }
    }
}

//! When places are told, and what is kept of what was told.

use std::time::Duration;

use super::kit::places;
use super::places::*;
use super::*;
use crate::units::Moment;
use wire::sync_request::Message as Request;
use wire::sync_response::Message as Response;

fn at(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn place(adapter: &str, until_ms: u64) -> Place {
    Place { adapter: adapter.into(), endpoint: "http://10.0.0.7:8000/v1".into(), until: at(until_ms) }
}

#[test]
fn a_list_goes_out_where_one_came_or_went_and_else_twice_in_a_lease() {
    let mut telling = Telling::default();
    let told = |list: Option<wire::Places>| list.map(|list| list.places.len());
    assert_eq!(told(telling.due(at(0), vec![])), Some(0), "the other end may know of more");
    assert_eq!(told(telling.due(at(1), vec![])), None);
    let list = telling.due(at(1000), vec![place("b", 11_000), place("a", 11_000)]).expect("two came");
    let names: Vec<_> = list.places.iter().map(|place| (&*place.adapter, place.left_ms)).collect();
    assert_eq!((names, list.is_whole), (vec![("a", 10_000), ("b", 10_000)], true));
    // Renewed each second.
    let renewed = |now_ms: u64| vec![place("a", now_ms + 10_000), place("b", 11_000)];
    let mut sent = Vec::new();
    for now_ms in (2000..=11_000).step_by(1000) {
        if telling.due(at(now_ms), renewed(now_ms)).is_some() {
            sent.push(now_ms);
        }
    }
    assert_eq!(sent, [6000, 11_000], "at the half of what was told");
    assert_eq!(told(telling.due(at(11_001), vec![place("a", 21_000)])), Some(1), "one went");
    assert_eq!(told(telling.due(at(11_002), vec![place("a", 15_000)])), Some(1), "one got less");
    assert_eq!(told(telling.due(at(11_003), vec![place("c", 15_000)])), Some(1), "one took its turn");
}

#[test]
fn as_many_places_as_allowed_are_told_and_one_more_is_not() {
    let standing = |count: usize| (0..count).map(|n| place(&format!("a-{n:04}"), 9000)).collect::<Vec<_>>();
    for count in [PLACES_MAX, PLACES_MAX + 1] {
        let list = Telling::default().due(at(0), standing(count)).expect("the first");
        assert_eq!(list.places.len(), PLACES_MAX);
        assert_eq!(check(&list, PLACES_MAX), Ok(()));
    }
    let over = write(standing(PLACES_MAX + 1).iter(), at(0), true);
    assert_eq!(check(&over, PLACES_MAX), Err(Unfit::TooMany(PLACES_MAX + 1, PLACES_MAX)));
}

#[test]
fn a_list_with_a_name_or_a_lease_past_its_bound_is_none() {
    let named = |adapter: &str, endpoint: &str, left_ms| {
        let place = wire::Place { adapter: adapter.into(), endpoint: endpoint.into(), left_ms };
        check(&wire::Places { places: vec![place], is_whole: true }, 1)
    };
    let (longest, url) = ("a".repeat(NODE_BYTES_MAX), "u".repeat(crate::model::URL_BYTES_MAX));
    assert_eq!(named(&longest, &url, 86_400_000), Ok(()));
    assert_eq!(named(&longest, &url, 86_400_001), Err(Unfit::Lease(86_400_001)));
    for (adapter, endpoint) in [
        ("", "u"),
        ("a", ""),
        (&*format!("{longest}a"), "u"),
        ("a", &*format!("{url}u")),
        ("a\n", "u"),
        ("a", "\u{1b}[2J"),
    ] {
        assert_eq!(named(adapter, endpoint, 1), Err(Unfit::Names), "{adapter:?} {endpoint:?}");
    }
}

#[test]
fn what_was_told_holds_until_its_lease_ends_or_a_whole_list_leaves_it_out() {
    let mut elsewhere = Elsewhere::default();
    let url = "http://10.0.0.7:8000/v1";
    elsewhere.on_list(places("a", 5000), at(0)).unwrap();
    assert_eq!(elsewhere.until("a", url), Some(at(5000)));
    assert_eq!((elsewhere.until("b", url), elsewhere.until("a", "http://other")), (None, None));
    let part = wire::Places { is_whole: false, ..places("b", 5000) };
    elsewhere.on_list(part, at(1000)).unwrap();
    assert_eq!((elsewhere.until("a", url), elsewhere.until("b", url)), (Some(at(5000)), Some(at(6000))));
    elsewhere.on_list(places("b", 5000), at(2000)).unwrap();
    assert_eq!((elsewhere.until("a", url), elsewhere.until("b", url)), (None, Some(at(7000))));
    elsewhere.on_list(wire::Places { places: vec![], is_whole: false }, at(7000)).unwrap();
    assert!(elsewhere.is_empty(), "what has ended is forgotten");
}

#[test]
fn lists_that_are_not_whole_never_add_up_past_the_bound() {
    let mut elsewhere = Elsewhere::default();
    for round in 0..10 {
        let place = |n: usize| wire::Place {
            adapter: format!("a-{round}-{n}"),
            endpoint: "http://10.0.0.7:8000/v1".into(),
            left_ms: 86_400_000,
        };
        let places: Vec<_> = (0..REGISTERED_MAX).map(place).collect();
        let newest = places[0].adapter.clone();
        elsewhere.on_list(wire::Places { places, is_whole: false }, at(round)).unwrap();
        assert!(elsewhere.until(&newest, "http://10.0.0.7:8000/v1").is_some(), "the newest is always kept");
        assert!(elsewhere.len() <= 2 * REGISTERED_MAX);
    }
}

#[test]
fn a_data_plane_tells_its_places_once_it_was_told_some_and_again_after_each_connection() {
    let mut subscriber = Subscriber::new("edge-1".into(), "1".into(), None);
    let sent = |subscriber: &mut Subscriber| {
        let mut sent = Vec::new();
        while let Some(action) = subscriber.poll_action() {
            match action {
                Action::Send(message) => match message.message.expect("never empty") {
                    Request::Hello(hello) => sent.push(format!("hello {}", hello.takes_places)),
                    Request::Places(list) => sent.push(format!("places {}", list.places.len())),
                    other => panic!("{other:?}"),
                },
                Action::Hear(list) => sent.push(format!("heard {}", list.places.len())),
                other => panic!("{other:?}"),
            }
        }
        sent
    };
    subscriber.on_connected();
    subscriber.on_standing(at(0), vec![place("a", 9000)]);
    assert_eq!(sent(&mut subscriber), ["hello true"], "an older control plane would not know them");
    subscriber.on_places(places("b", 10)).unwrap();
    for now_ms in 0..3 {
        subscriber.on_standing(at(now_ms), vec![place("a", 9000)]);
    }
    assert_eq!(sent(&mut subscriber), ["places 1", "heard 1"]);
    subscriber.on_connected();
    subscriber.on_places(places("b", 10)).unwrap();
    subscriber.on_standing(at(9), vec![place("a", 9000)]);
    assert_eq!(sent(&mut subscriber), ["hello true", "places 1", "heard 1"]);
}

#[test]
fn only_a_data_plane_that_takes_places_is_told_any_and_then_the_newest() {
    for takes_places in [true, false] {
        let mut publisher = Publisher::default();
        publisher.on_others(places("a", 10));
        assert!(publisher.poll_places().is_none(), "hello comes first");
        let hello = wire::Hello {
            node: "edge-1".into(),
            version: "1".into(),
            takes_places,
            ..wire::Hello::default()
        };
        publisher.on_hello(hello).unwrap();
        publisher.on_others(places("b", 10));
        let told = std::iter::from_fn(|| publisher.poll_places()).collect::<Vec<_>>();
        let expected = wire::SyncResponse { message: Some(Response::Places(places("b", 10))) };
        assert_eq!(told, if takes_places { vec![expected] } else { vec![] });
    }
}

#[test]
fn a_lease_ends_where_it_does_whatever_the_clocks_say() {
    let list = write([place("a", 5000), place("b", 900)].iter(), at(1000), true);
    assert_eq!(list.places.len(), 1, "what has ended is not told");
    let read = read(list, at(700_000), 1).unwrap();
    assert_eq!(read[0].until, at(700_000) + Duration::from_secs(4));
}

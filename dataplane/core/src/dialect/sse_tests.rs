//! Any cut of a stream gives the same events and the same bytes; a reader written straight from the standard
//! is the oracle.

use proptest::prelude::*;

use super::*;

type Owned = (Vec<u8>, Option<Vec<u8>>);

/// Events of `stream` cut after every offset of `cuts`, and the bytes sent on; events whose data is `drop`
/// are not.
fn split(stream: &[u8], cuts: &[usize], drop: &[u8]) -> (Vec<Owned>, Vec<u8>) {
    let mut splitter = Splitter::new();
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    let whole = Bytes::copy_from_slice(stream);
    let mut from = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        let mut out = Rope::new();
        let piece = whole.slice(from..cut);
        splitter
            .push(&piece, &mut out, |event| {
                if event.data.is_some() {
                    events.push((event.name.to_vec(), event.data.map(<[u8]>::to_vec)));
                }
                if event.data == Some(drop) { Verdict::Drop } else { Verdict::Forward }
            })
            .unwrap();
        out.iter().for_each(|slice| sent.extend_from_slice(slice));
        from = cut;
    }
    (events, sent)
}

/// "Interpreting an event stream", line by line, on the whole stream at once.
fn by_the_standard(stream: &[u8]) -> Vec<Owned> {
    let stream = stream.strip_prefix(BOM).unwrap_or(stream);
    let (mut events, mut line) = (Vec::new(), Vec::new());
    let (mut name, mut data): (Vec<u8>, Option<Vec<u8>>) = (Vec::new(), None);
    let mut bytes = stream.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte != b'\n' && byte != b'\r' {
            line.push(byte);
            continue;
        }
        if byte == b'\r' {
            bytes.next_if_eq(&&b'\n');
        }
        if line.is_empty() {
            if let Some(data) = data.take() {
                events.push((name.clone(), Some(data)));
            }
            name.clear();
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            },
            b"event" => name = value.to_vec(),
            _ => {}
        }
        line.clear();
    }
    events
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        &b"data: {\"a\":1}"[..],
        b"data:",
        b"data",
        b"data:x:y",
        b"data:  two",
        b"event: error",
        b"event:",
        b"id: 1",
        b"retry: 5",
        b": comment",
        b":",
        b"\n",
        b"\n",
        b"\n\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\r",
        b"\xFF",
        b"data: drop me\n\n",
        b"data: drop me\r\n\r\n",
        b"\xEF\xBB\xBF",
    ]);
    (any::<bool>(), proptest::collection::vec(part, 0..16)).prop_map(|(bom, parts)| {
        let mut stream = if bom { BOM.to_vec() } else { Vec::new() };
        parts.iter().for_each(|part| stream.extend_from_slice(part));
        stream
    })
}

proptest! {
    #[test]
    fn events_are_those_of_the_standard_however_the_stream_is_cut(stream in lines()) {
        let (events, sent) = split(&stream, &[], b"-");
        prop_assert_eq!(&events, &by_the_standard(&stream));
        prop_assert!(stream.starts_with(&sent), "what is sent on is the stream as it came");
        let ends = |pair: &[u8]| pair == b"\n\n" || pair == b"\r\r";
        prop_assert!(!stream[sent.len()..].windows(2).any(ends), "no whole event is held back");
        for cut in 0..stream.len() {
            prop_assert_eq!(&split(&stream, &[cut], b"-"), &(events.clone(), sent.clone()), "cut at {}", cut);
        }
        let every: Vec<usize> = (1..stream.len()).collect();
        prop_assert_eq!(split(&stream, &every, b"-"), (events, sent));
    }

    #[test]
    fn dropped_events_leave_no_byte_however_the_stream_is_cut(
        stream in lines(),
        a: prop::sample::Index,
        b: prop::sample::Index,
    ) {
        let whole = split(&stream, &[], b"drop me");
        let mut cuts = [a.index(stream.len() + 1), b.index(stream.len() + 1)];
        cuts.sort_unstable();
        prop_assert_eq!(&split(&stream, &cuts, b"drop me"), &whole);
        let every: Vec<usize> = (1..stream.len()).collect();
        prop_assert_eq!(&split(&stream, &every, b"drop me"), &whole);
        // Where what stood before a later mark is gone, it reads as one that opens the stream.
        prop_assume!(!whole.1.starts_with(BOM));
        let kept: Vec<Owned> =
            whole.0.into_iter().filter(|(_, data)| data.as_deref() != Some(b"drop me")).collect();
        prop_assert_eq!(split(&whole.1, &[], b"-").0, kept);
    }

    #[test]
    fn random_bytes_never_panic(
        stream in proptest::collection::vec(any::<u8>(), 0..200),
        cut: prop::sample::Index,
    ) {
        let cut = cut.index(stream.len() + 1);
        prop_assert_eq!(split(&stream, &[cut], b"-").0, by_the_standard(&stream));
    }
}

#[test]
fn whole_events_of_a_piece_leave_as_one_slice_of_it() {
    let piece = Bytes::from_static(b"data: 1\n\ndata: 2\n\n: ping\n\ndata: 3");
    let mut splitter = Splitter::new();
    let mut out = Rope::new();
    splitter.push(&piece, &mut out, |_| Verdict::Forward).unwrap();
    assert_eq!(out.count(), 1);
    let first = out.pop_front().unwrap();
    assert_eq!((first.as_ptr(), first.len()), (piece.as_ptr(), piece.len() - 7));
    assert_eq!(splitter.tail(), Some(Event { name: b"", data: Some(b"3") }));
    splitter
        .push(&Bytes::from_static(b"4\n\n"), &mut out, |event| {
            assert_eq!(event.data, Some(&b"34"[..]));
            Verdict::Forward
        })
        .unwrap();
    assert_eq!(
        out.pop_front().unwrap().as_ptr(),
        piece[piece.len() - 7..].as_ptr(),
        "the tail is not copied"
    );
    assert_eq!(splitter.tail(), None);
}

#[test]
fn forwarded_ranges_are_split_around_a_dropped_event() {
    let (_, sent) = split(b"data: 1\n\ndata: x\n\ndata: 2\n\n", &[], b"x");
    assert_eq!(sent, b"data: 1\n\ndata: 2\n\n");
}

#[test]
fn an_event_may_be_as_long_as_the_limit_and_not_longer_however_it_comes() {
    let event = |length: usize| [&b"data: "[..], &vec![b'x'; length - 8], b"\n\n"].concat();
    let push = |stream: &[u8], size: usize| {
        let mut splitter = Splitter::new();
        let mut out = Rope::new();
        let whole = Bytes::copy_from_slice(stream);
        (0..stream.len()).step_by(size).try_for_each(|from| {
            let piece = whole.slice(from..stream.len().min(from + size));
            splitter.push(&piece, &mut out, |_| Verdict::Forward)
        })?;
        Ok(out.len())
    };
    for size in [usize::MAX >> 1, 64 << 10, 1000] {
        assert_eq!(push(&event(EVENT_BYTES_MAX), size), Ok(EVENT_BYTES_MAX as u64));
        assert_eq!(push(&event(EVENT_BYTES_MAX + 1), size), Err(too_long()));
        assert_eq!(push(&vec![b'x'; EVENT_BYTES_MAX + 1], size), Err(too_long()));
    }
}

#[test]
fn events_before_one_that_is_too_long_are_sent_on() {
    let stream = [b"data: 1\n\ndata: ".to_vec(), vec![b'x'; EVENT_BYTES_MAX], b"\n\n".to_vec()].concat();
    let mut out = Rope::new();
    assert!(Splitter::new().push(&Bytes::from(stream), &mut out, |_| Verdict::Forward).is_err());
    assert_eq!(out.pop_front().as_deref(), Some(&b"data: 1\n\n"[..]));
}

#[test]
fn what_a_large_event_needed_is_given_back() {
    let mut splitter = Splitter::new();
    let mut out = Rope::new();
    for piece in [vec![b'x'; 500_000], vec![b'x'; 500_000], b"\n\n".to_vec()] {
        splitter.push(&Bytes::from(piece), &mut out, |_| Verdict::Forward).unwrap();
    }
    assert_eq!(out.len(), 1_000_002);
    assert!(splitter.scratch.capacity() <= SCRATCH_KEPT);
}

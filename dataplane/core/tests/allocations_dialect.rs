//! The path of a request allocates nothing in the dialects: counted, not believed. The count is per thread,
//! so tests may run side by side.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use dataplane_core::dialect::openai::StreamReader;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Profile, Scanner};
use dataplane_core::dialect::splice;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory it hands out, and
// the thread-local is const-initialised, so that counting never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `place` came from `System`.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `realloc`; `place` came from `System`.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

/// Bytes as they come from a connection: shared already, so that slices of them only count references.
fn shared(text: &str) -> Bytes {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    drop(bytes.clone());
    bytes
}

#[test]
fn the_counter_counts() {
    let (count, kept) = allocations_of(|| vec![1_u8; 10]);
    assert_eq!((count, kept.len()), (1, 10));
}

#[test]
fn a_request_is_scanned_and_spliced_without_a_heap() {
    let body =
        shared(r#"{"model":"gpt-4o","messages":[{"role":"user","content":"h\u00e9llo"}],"stream":true}"#);
    let model = shared("\"upstream/model\"");
    let (count, spliced) = allocations_of(|| {
        let mut scanner = Scanner::new(Profile::Chat);
        scanner.push(&body).expect("the body is sound");
        let head = scanner.finish().expect("the body is complete");
        splice::for_upstream(&Rope::from(body.clone()), &head, &model)
    });
    assert_eq!((count, spliced.count()), (0, 5));
}

#[test]
fn a_stream_is_read_and_sent_on_without_a_heap_also_where_events_span_pieces() {
    let token =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    let stream = shared(&[token, token, usage, token].concat());
    let cut = stream.len() / 2;
    let pieces = [stream.clone(), stream.slice(..cut), stream.slice(cut..)];
    let mut reader = StreamReader::new(true);
    let mut out = Rope::new();
    let mut once = || {
        for piece in &pieces {
            reader.push(piece, &mut out).expect("the stream is sound");
            while out.pop_front().is_some() {}
        }
    };
    // The first time, the place for events that span pieces is made; it is kept.
    once();
    let (count, ()) = allocations_of(once);
    assert_eq!((count, reader.progress().tokens_received), (0, 12));
}

//! An allocator that counts on chosen threads, and may say from where.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub struct Counting;

/// Threads of the data plane that serve.
static COUNTED: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static HELD_BYTES: AtomicI64 = AtomicI64::new(0);
/// Blocks of each size; the last is of all that are larger.
static HELD: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// Every so many allocations one backtrace; 0: none.
static SAMPLE_EVERY: AtomicU64 = AtomicU64::new(0);
static SAMPLES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy, PartialEq)]
enum Thread {
    Unknown,
    Worker,
    Other,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown) };
    /// Counts here, whatever the thread's name.
    static OWN: Cell<Option<u64>> = const { Cell::new(None) };
    static IS_SAMPLING: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches atomics and thread-locals
// that need neither memory nor a destructor, and sampling is guarded against itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        hold(layout.size(), 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        hold(layout.size(), 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(layout.size(), -1);
        hold(size, 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count(bytes: usize) {
    if let Some(count) = OWN.get() {
        OWN.set(Some(count + 1));
    }
    if !IS_COUNTING.load(Ordering::Acquire) || !is_worker() || IS_SAMPLING.get() {
        return;
    }
    let before = COUNTED.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    let every = SAMPLE_EVERY.load(Ordering::Relaxed);
    if every > 0 && before.is_multiple_of(every) {
        IS_SAMPLING.set(true);
        sample(bytes);
        IS_SAMPLING.set(false);
    }
}

/// On workers always, so that what is given back was counted when it was taken.
fn hold(bytes: usize, count: i64) {
    if is_worker() {
        HELD[bytes.min(SIZES - 1)].fetch_add(count, Ordering::Relaxed);
        HELD_BYTES.fetch_add(count * bytes as i64, Ordering::Relaxed);
    }
}

/// By the name the system keeps, because asking the library may allocate.
fn is_worker() -> bool {
    if THREAD.get() == Thread::Unknown {
        let mut name = [0u8; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes, the end included, to where its argument points.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        THREAD.set(if name.starts_with(b"worker-") { Thread::Worker } else { Thread::Other });
    }
    THREAD.get() == Thread::Worker
}

fn sample(bytes: usize) {
    let trace = Backtrace::force_capture().to_string();
    let places = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let outside = places.filter(|place| !INSIDE.iter().any(|inside| place.contains(inside)));
    let frames: Vec<&str> = outside.take(FRAMES).map(short).collect();
    if let Ok(mut samples) = SAMPLES.lock() {
        *samples.entry(format!("{bytes} bytes: {}", frames.join("\n      ← "))).or_default() += 1;
    }
}

/// `package/src/file.rs:line:column`, without the way there.
fn short(place: &str) -> &str {
    let from = place.rfind("/src/").map_or(0, |at| place[..at].rfind('/').map_or(0, |slash| slash + 1));
    &place[from..]
}

/// What `work` allocates on this thread.
pub fn on_this_thread(work: impl FnOnce()) -> u64 {
    OWN.set(Some(0));
    work();
    OWN.replace(None).unwrap_or_default()
}

/// Allocations and their bytes on worker threads while `work` runs.
pub fn on_workers(sample_every: u64, work: impl FnOnce()) -> (u64, u64) {
    SAMPLE_EVERY.store(sample_every, Ordering::Relaxed);
    let read = || (COUNTED.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let before = read();
    IS_COUNTING.store(true, Ordering::Release);
    work();
    IS_COUNTING.store(false, Ordering::Release);
    let after = read();
    (after.0 - before.0, after.1 - before.1)
}

/// What worker threads hold, by the size it was asked for in.
pub struct Held {
    bytes: i64,
    counts: Vec<i64>,
}

impl Held {
    fn now() -> Held {
        let counts = HELD.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Held { bytes: HELD_BYTES.load(Ordering::Relaxed), counts }
    }

    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// Sizes of which there are now more, or fewer, and how many; the largest first.
    pub fn more_than(&self, before: &Held) -> Vec<(usize, i64)> {
        let sizes = self.counts.iter().zip(&before.counts).enumerate().rev();
        sizes.map(|(size, (now, then))| (size, now - then)).filter(|(_, more)| *more != 0).collect()
    }
}

/// What worker threads hold once they have done what there was to do, timers and clearing up included.
pub async fn held_at_rest() -> Held {
    let (mut last, mut since, begun) = (Held::now(), Instant::now(), Instant::now());
    while since.elapsed() < REST {
        assert!(begun.elapsed() < REST_MAX, "workers never come to rest");
        tokio::time::sleep(REST / 20).await;
        let now = Held::now();
        if now.bytes != last.bytes {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// From where, most often first; forgets them.
pub fn samples() -> Vec<(u64, String)> {
    let samples = SAMPLES.lock().map(|mut samples| std::mem::take(&mut *samples)).unwrap_or_default();
    let mut samples: Vec<_> = samples.into_iter().map(|(place, count)| (count, place)).collect();
    samples.sort_by(|one, other| other.cmp(one));
    samples
}

/// Frames that say nothing about who wanted the memory.
const INSIDE: &[&str] = &["allocations/counting.rs", "/rustc/", "/library/", "/hashbrown-", "allocations.rs"];
const FRAMES: usize = 5;
const SIZES: usize = 64 * 1024;
/// Longer than the data plane waits before it gives back what was only needed for a moment.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

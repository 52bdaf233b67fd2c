//! Atomics: the real ones, or loom's when models run (`--cfg loom`), so that a model runs the very code that
//! ships.

#[cfg(not(loom))]
pub use atomic_waker::AtomicWaker;
#[cfg(not(loom))]
pub use crossbeam_utils::atomic::AtomicCell;
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
pub use shims::{AtomicCell, AtomicWaker};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What others wrote and loom cannot look into, as what it promises: one step that nothing comes between.
#[cfg(loom)]
mod shims {
    use std::task::Waker;

    use loom::sync::Mutex;

    /// One value.
    pub struct AtomicCell<T>(Mutex<T>);

    impl<T: Default> AtomicCell<T> {
        pub fn new(value: T) -> AtomicCell<T> {
            AtomicCell(Mutex::new(value))
        }

        pub fn take(&self) -> T {
            std::mem::take(&mut *self.0.lock().expect("no model panics while it holds it"))
        }

        pub fn store(&self, value: T) {
            let before = std::mem::replace(&mut *self.0.lock().expect("as in `take`"), value);
            drop(before);
        }
    }

    /// One task to wake.
    pub struct AtomicWaker(Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub fn new() -> AtomicWaker {
            AtomicWaker(Mutex::new(None))
        }

        pub fn register(&self, waker: &Waker) {
            let before = self.0.lock().expect("no model panics while it holds it").replace(waker.clone());
            drop(before);
        }

        pub fn wake(&self) {
            let waker = self.0.lock().expect("as in `register`").take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

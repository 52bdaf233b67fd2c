//! The one signal to end: given once, seen by every task, also by those that look later.

use tokio::sync::watch;

/// Who gives the signal. Dropping it gives it too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Who waits for it.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stop {
    pub fn new() -> (Stop, Stopping) {
        let (sender, receiver) = watch::channel(false);
        (Stop(sender), Stopping(receiver))
    }

    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    pub async fn wait(&self) {
        // An error means that the other end was dropped, which is the signal as well.
        let _ = self.0.clone().wait_for(|is_stopping| *is_stopping).await;
    }
}

//! The client library: asks a data plane and reads its answer as it comes.
//!
//! Rooms: [`url`] (where to), [`ask`] (one prompt, its answer as events). It knows the protocols of
//! `proto-core` and nothing of the planes. Today it speaks HTTP/1.1 in cleartext.
//!
//! ```no_run
//! # async fn example() -> Result<(), sdk_rust::Failure> {
//! use sdk_rust::{Ask, Event};
//!
//! let mut answer = Ask::new("Why is the sky blue?").send("http://127.0.0.1:7443").await?;
//! while let Some(event) = answer.next().await? {
//!     match event {
//!         Event::Chunk(chunk) => print!("{}", chunk.text),
//!         Event::Final(last) => println!("\n{} tokens", last.tokens_out),
//!         Event::Plan(_) | Event::Note(_) => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod ask;
pub mod url;

pub use ask::{Answer, Ask, Chunk, Event, Final, Plan};

/// Why there is no answer, or no end to it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0} is no address of a data plane: {1}")]
    Url(String, &'static str),
    #[error("nobody answers at {address}: {why}; is a data plane running there (`atp up`)?")]
    Unreachable { address: String, why: String },
    /// The data plane refused: its status and what it said.
    #[error("refused with status {status}: {said}")]
    Refused { status: u16, said: String },
    /// The answer broke off after it had begun.
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("the answer has a line this library does not understand: {0}")]
    Garbled(String),
    #[error("nothing came for {0} seconds")]
    Timeout(u64),
}

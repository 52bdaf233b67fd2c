//! The client library: asks a data plane and reads its answer as it comes.
//!
//! One prompt over plain HTTP:
//!
//! ```no_run
//! # async fn run() -> Result<(), sdk_rust::Failure> {
//! use sdk_rust::{Ask, ask::Event};
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
//!
//! A session: many requests at once over one connection, which may be lost and comes back.
//!
//! ```no_run
//! # async fn run() -> Result<(), sdk_rust::Failure> {
//! use sdk_rust::{Client, Options, Piece, Via};
//!
//! let options = Options { via: Via::H2, ..Options::default() };
//! let client = Client::connect("http://127.0.0.1:7443", options).await?;
//! let (mut first, second) = (client.ask("Why is the sky blue?").await?, client.ask("And the sea?").await?);
//! while let Some(piece) = first.next().await? {
//!     match piece {
//!         Piece::Text(text) => print!("{text}"),
//!         Piece::Done(done) => println!("\n{} tokens of {}", done.tokens_out, done.model_used),
//!         _ => {}
//!     }
//! }
//! println!("{}", second.whole().await?.text);
//! client.finish().await
//! # }
//! ```
//!
//! Several models at once, and one answer of what they say:
//!
//! ```no_run
//! # async fn run(client: sdk_rust::Client) -> Result<(), sdk_rust::Failure> {
//! use sdk_rust::{Dispatch, Policy};
//!
//! let question = Dispatch::new("Is 2027 prime?", ["small", "large"]).with_policy(Policy::Consensus);
//! println!("{}", client.dispatch(&question).await?.whole().await?.text);
//! # Ok(())
//! # }
//! ```
//!
//! A program that answers, over a connection it opened itself:
//!
//! ```no_run
//! # async fn run() -> Result<(), sdk_rust::Failure> {
//! use sdk_rust::{Adapter, Options, Usage};
//!
//! let adapter = Adapter::new("parrot", |request: sdk_rust::Request, reply: sdk_rust::Reply| async move {
//!     let words = request.body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
//!     for word in words.split_inclusive(' ') {
//!         // Nobody waits for it any more: the rest is not needed.
//!         if reply.text(word).await.is_err() {
//!             break;
//!         }
//!     }
//!     Ok(Usage { tokens_in: 1, tokens_out: 1 })
//! });
//! adapter.serve("http://127.0.0.1:7443", &Options::default(), std::future::pending()).await
//! # }
//! ```

pub mod adapter;
pub mod answer;
pub mod ask;
pub mod client;
pub mod dispatch;
pub mod failure;
#[cfg(test)]
mod far;
pub mod mcp;
pub mod options;
mod post;
mod session;
mod transport;
pub mod url;

pub use adapter::{Adapter, Reply, Request, StatusTeller, Usage};
pub use answer::{Answer, Done, Piece, Telemetry};
pub use ask::Ask;
pub use client::Client;
pub use dispatch::{Dispatch, Policy};
pub use failure::Failure;
pub use mcp::Mcp;
pub use options::{Options, Tls, Via};

/// Words of the protocol that this library speaks with.
pub use proto_core::frame::{Code, Encoding, Qos, Window};
pub use proto_core::session::{AgentState, AgentStatus, Refusal};

/// The page for users: its programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/sdk.md")]
struct Page;

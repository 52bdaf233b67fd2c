//! A caller behind TLS, one connection for as long as it is kept.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::kit::{chat, within};

/// A connection whose handshake, as far as the client can see, went well.
pub struct Secure {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
    /// What the server showed.
    pub server: CertificateDer<'static>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Secure {
    pub async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Secure, String> {
        within("a handshake", Secure::try_connect(address, config)).await
    }

    async fn try_connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Secure, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let session = stream.get_ref().1;
        let server = session.peer_certificates().expect("a server shows one")[0].clone();
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Secure { sender, connection, server })
    }

    /// Status and body; `Err` where there is no whole answer.
    pub async fn chat(&mut self, model: &str, key: Option<&str>) -> Result<(u16, String), String> {
        let response = self.send(model, false, key).await?;
        let status = response.status().as_u16();
        let body =
            within("a body", response.into_body().collect()).await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8(body.to_bytes().to_vec()).expect("text")))
    }

    pub async fn send(
        &mut self,
        model: &str,
        is_streamed: bool,
        key: Option<&str>,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::post("/v1/chat/completions").header("host", "localhost");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(Full::new(chat(model, is_streamed).into())).expect("a request");
        let mut answered = pin!(self.sender.send_request(request));
        // A request that is handed over in the very moment in which its connection ends is answered by
        // nobody: its place in the channel outlives whoever read from it. So both are waited for.
        let connection = &mut self.connection;
        let ended = async {
            if !connection.is_finished() {
                drop(connection.await);
            }
        };
        let answered = within("an answer or the connection's end", async {
            tokio::select! {
                biased;
                answered = &mut answered => Some(answered),
                () = ended => {
                    poll_fn(|cx| match answered.as_mut().poll(cx) {
                        Poll::Ready(answered) => Poll::Ready(Some(answered)),
                        Poll::Pending => Poll::Ready(None),
                    })
                    .await
                }
            }
        });
        answered.await.ok_or("the connection ended first")?.map_err(|error| error.to_string())
    }

    /// Until the server closes it.
    pub async fn closed(&mut self) {
        // How it ended does not matter; and it is asked once.
        if !self.connection.is_finished() {
            drop((&mut self.connection).await);
        }
    }
}

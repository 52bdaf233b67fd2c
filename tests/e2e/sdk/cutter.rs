//! Something between a client and a data plane that breaks: TCP connections are cut, datagrams are swallowed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between: its address is the data plane's for clients.
pub struct Cutter {
    pub address: SocketAddr,
    // Order: relaxed; a count that tests read.
    passed: Arc<AtomicU64>,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cutter {
    pub async fn tcp(to: SocketAddr) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (cuts, cut) = watch::channel(0);
        let passed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&passed);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = cut.clone();
                cut.mark_unchanged();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.expect("the data plane listens");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Cutter { address, passed, cuts, task }
    }

    pub async fn udp(to: SocketAddr) -> Cutter {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
        let address = socket.local_addr().expect("it is bound");
        let (cuts, cut) = watch::channel(0);
        let passed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&passed);
        let task = tokio::spawn(async move {
            // By client; one that was there before a cut is heard no more.
            let mut clients: HashMap<SocketAddr, (u64, Arc<UdpSocket>)> = HashMap::new();
            let mut datagram = vec![0; 65536];
            while let Ok((bytes, from)) = socket.recv_from(&mut datagram).await {
                let now = *cut.borrow();
                let (since, own) = match clients.entry(from) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(free) => {
                        let own = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
                        own.connect(to).await.expect("an address");
                        tokio::spawn(back(Arc::clone(&own), Arc::clone(&socket), from, cut.clone()));
                        count.fetch_add(1, Ordering::Relaxed);
                        free.insert((now, own))
                    }
                };
                if *since == now {
                    // A data plane that is gone hears nothing.
                    let _ = own.send(&datagram[..bytes]).await;
                }
            }
        });
        Cutter { address, passed, cuts, task }
    }

    /// Everything that is open now breaks.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// What the data plane says to one client.
async fn back(own: Arc<UdpSocket>, to: Arc<UdpSocket>, client: SocketAddr, mut cut: watch::Receiver<u64>) {
    cut.mark_unchanged();
    let mut datagram = vec![0; 65536];
    loop {
        tokio::select! {
            read = own.recv(&mut datagram) => {
                let Ok(bytes) = read else { continue };
                let _ = to.send_to(&datagram[..bytes], client).await;
            }
            _ = cut.changed() => return,
        }
    }
}

//! A server of names (RFC 1035): one question in, the records of a table out, good for no time at all.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

pub struct Names {
    pub address: SocketAddr,
    table: Arc<Mutex<Table>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Table {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    services: HashMap<String, Vec<(String, u16)>>,
    is_failing: bool,
}

impl Drop for Names {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Names {
    pub async fn start() -> Names {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let table = Arc::new(Mutex::new(Table::default()));
        let kept = Arc::clone(&table);
        let serving = tokio::spawn(async move {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = kept.lock().expect("nobody panics with it").answer(&question[..length]);
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Names { address, table, serving }
    }

    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.table.lock().expect("nobody panics with it").addresses.insert(name.into(), addresses);
    }

    pub fn set_service(&self, name: &str, targets: &[(&str, u16)]) {
        let targets = targets.iter().map(|(name, port)| ((*name).into(), *port)).collect();
        self.table.lock().expect("nobody panics with it").services.insert(name.into(), targets);
    }

    /// Says to every question that it cannot answer.
    pub fn fail(&self) {
        self.table.lock().expect("nobody panics with it").is_failing = true;
    }
}

impl Table {
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let (mut name, mut at) = (Vec::new(), 12);
        while question[at] > 0 {
            let end = at + 1 + usize::from(question[at]);
            name.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
            at = end;
        }
        let name = name.join(".");
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let records: Vec<Vec<u8>> = match kind {
            A => {
                let found = self.addresses.get(&name).into_iter().flatten();
                found.map(|address| address.octets().to_vec()).collect()
            }
            SRV => {
                let found = self.services.get(&name).into_iter().flatten();
                found.map(|(target, port)| service(target, *port)).collect()
            }
            _ => Vec::new(),
        };
        // Its id; an answer, with authority, to who wished recursion; and what came of it.
        let outcome = if self.is_failing { SERVER_FAILURE } else { 0 };
        let mut answer = vec![question[0], question[1], 0x85, 0x80 | outcome, 0, 1];
        let records = if self.is_failing { Vec::new() } else { records };
        answer.extend_from_slice(&(records.len() as u16).to_be_bytes());
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(&question[12..at + 5]);
        for record in records {
            // The name of the question, its kind, the Internet, no time to live.
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
            answer.extend_from_slice(&(record.len() as u16).to_be_bytes());
            answer.extend_from_slice(&record);
        }
        answer
    }
}

/// Priority and weight 1, port, target.
fn service(target: &str, port: u16) -> Vec<u8> {
    let mut record = vec![0, 1, 0, 1];
    record.extend_from_slice(&port.to_be_bytes());
    for label in target.split('.') {
        record.push(label.len() as u8);
        record.extend_from_slice(label.as_bytes());
    }
    record.push(0);
    record
}

const A: u16 = 1;
const SRV: u16 = 33;
const SERVER_FAILURE: u8 = 2;

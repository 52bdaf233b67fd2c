//! `health`: asks a server whether it is well and says so by an exit code, for images without a shell. A
//! process of its own that ends within seconds, so it may block.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use proto_core::probe::{ANSWER_BYTES_MAX, PROBE_MS, Probe};

/// 0 where it is well, 1 where it is not, 2 where the address is none.
pub fn run(url: &str) -> ExitCode {
    let probe = match Probe::parse(url) {
        Ok(probe) => probe,
        Err(what) => {
            eprintln!("error: {url}: {what}");
            return ExitCode::from(2);
        }
    };
    match ask(&probe, Duration::from_millis(PROBE_MS)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it is well, within `wait`.
fn ask(probe: &Probe, wait: Duration) -> Result<(), String> {
    let began = Instant::now();
    let left = || wait.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
    let failed = |error: std::io::Error| format!("{}: {error}", probe.address);
    let mut socket = Err(format!("{} is no address", probe.address));
    for address in probe.address.to_socket_addrs().map_err(failed)? {
        socket = TcpStream::connect_timeout(&address, left()).map_err(failed);
        if socket.is_ok() {
            break;
        }
    }
    let mut socket = socket?;
    socket.set_write_timeout(Some(left())).map_err(failed)?;
    socket.write_all(probe.request().as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while (answer.len() as u64) < ANSWER_BYTES_MAX && began.elapsed() < wait {
        socket.set_read_timeout(Some(left())).map_err(failed)?;
        match socket.read(&mut piece).map_err(failed)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    probe.judge(&answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn asked_of(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = Probe::parse(&format!("http://{}/readyz", listener.local_addr().unwrap())).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let count = socket.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /readyz "));
            // Whoever has read enough goes away.
            let _ = socket.write_all(answer);
        });
        let told = ask(&probe, Duration::from_secs(20));
        serving.join().unwrap();
        told
    }

    #[test]
    fn a_server_is_well_that_says_so() {
        assert_eq!(asked_of(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), Ok(()));
        let told = asked_of(b"HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready").unwrap_err();
        assert!(told.ends_with("answers 503: not ready"), "{told}");
    }

    #[test]
    fn an_answer_without_end_is_read_to_its_bound() {
        let endless = vec![b'a'; 8 * ANSWER_BYTES_MAX as usize].leak();
        assert!(asked_of(endless).unwrap_err().contains("does not speak"));
    }

    #[test]
    fn a_server_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = Probe::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        assert!(ask(&probe, Duration::from_millis(20)).is_err());
    }

    #[test]
    fn a_port_where_nobody_listens_is_said() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let probe = Probe::parse(&format!("http://{free}/")).unwrap();
        assert!(ask(&probe, Duration::from_secs(5)).unwrap_err().contains(&free.to_string()));
    }
}

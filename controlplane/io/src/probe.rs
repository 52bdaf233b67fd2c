//! `atp-controlplane health`: asks a server whether it is well and says so by an exit code. As the data
//! plane's, which this plane does not know.

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
    use super::*;

    #[test]
    fn a_server_is_well_that_says_so_and_one_that_is_gone_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = Probe::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 256]).unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        assert_eq!(ask(&probe, Duration::from_secs(20)), Ok(()));
        serving.join().unwrap();
        assert!(ask(&probe, Duration::from_secs(5)).is_err());
    }
}

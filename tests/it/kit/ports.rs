//! Ports that programs of the tests are told to listen on later, and listen on again after a restart.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system gives to outgoing connections (from 32,768 on), which could take one while nothing
/// listens on it.
const FIRST: u32 = 10_000;
/// As many as there are up to 31,999.
const COUNT: u32 = 22_000;

/// Ports that this process looked at.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);
/// Locks of this process's ports. Each test is a process, and its end gives them back.
static MINE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nothing listens on and that no other test is given while this one runs.
///
/// Tests are processes that run side by side: each port has a file in the system's directory for temporary ones, and
/// whoever holds its lock has the port.
pub(crate) fn steady_port() -> u16 {
    let locks = std::env::temp_dir().join("tidegate-test-ports");
    fs::create_dir_all(&locks).unwrap();
    // Processes begin in different places, so that they seldom try what others have.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let number = FIRST + begin.wrapping_add(LOOKED_AT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(number).unwrap();
        let lock = File::create(locks.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            MINE.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("none of {COUNT} ports is free");
}

//! Handing over between two sides in one process; real processes are in `tests/it/lossless.rs`.

use super::*;
use std::net::TcpListener;

fn sockets() -> Sockets {
    let any = || TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
    let pair = || vec![any(), any()];
    Sockets { egress: pair(), ingress: pair(), admin: Some(any()), gateway: vec![any(), any(), any(), any()] }
}

fn addresses(sockets: &Sockets) -> Vec<std::net::SocketAddr> {
    let all = sockets.egress.iter().chain(&sockets.ingress).chain(&sockets.admin).chain(&sockets.gateway);
    all.map(|socket| socket.local_addr().expect("it is bound")).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The process that is found there.
async fn running(path: &Path) -> Predecessor {
    match find(path).await.expect("it answers") {
        Found::Running(predecessor) => *predecessor,
        Found::Nobody | Found::Ending => panic!("it serves"),
    }
}

#[test]
fn offers_are_read_as_they_are_written_and_nothing_else_is() {
    let counts = Counts { egress: 2, ingress: 300, admin: 1, gateway: 4 };
    let written = offer(counts, 0x0102_0304);
    assert_eq!(written, *b"\x02\x00\x2c\x01\x01\x00\x04\x00\x04\x03\x02\x01");
    assert_eq!(read_offer(written), Some((counts, 0x0102_0304)));
    // No workers, too many of them, two admin pages, more ports than any gateway has.
    for (at, byte) in [(0, 0), (1, 5), (3, 5), (4, 2), (7, 65)] {
        let mut other = written;
        other[at] = byte;
        assert_eq!(read_offer(other), None, "byte {at} is {byte}");
    }
}

#[tokio::test]
async fn sockets_go_over_and_so_does_the_place() {
    let folder = folder();
    let path = folder.path().join("hot");
    assert!(matches!(find(&path).await, Ok(Found::Nobody)));
    let place = Handover::claim(&path).expect("the folder is ours");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let own = sockets();
    let first = addresses(&own);
    let own = std::sync::Mutex::new(Some(own));
    let successor = tokio::spawn(async move {
        let successor = place.successor(|| Ok(own.lock().expect("nobody panics").take())).await;
        drop(place);
        successor.release(&[tripped::example("all")]).await;
    });
    let mut predecessor = running(&path).await;
    assert_eq!(addresses(&predecessor.take_sockets()), first);
    assert_eq!(predecessor.pid, std::process::id());
    let (released, place) = predecessor.release().await.expect("the place is free");
    assert_eq!(released, Released::SteppedBack(vec![tripped::example("all")]));
    successor.await.expect("it was released");
    // The socket is the same one, now with its successor.
    let next = tokio::spawn(async move { place.successor(|| Ok(None)).await.pid });
    assert!(matches!(find(&path).await, Ok(Found::Ending)), "it says so");
    next.abort();
}

#[tokio::test]
async fn a_newcomer_that_ends_leaves_everything_as_it_was() {
    let folder = folder();
    let path = folder.path().join("hot");
    let place = Handover::claim(&path).expect("the folder is ours");
    let ours = tokio::spawn(async move { place.successor(|| Ok(Some(sockets()))).await.release(&[]).await });
    // One that says nothing, one that says something else, one that has the sockets and ends.
    drop(UnixStream::connect(&path).await.expect("it listens"));
    let mut other = UnixStream::connect(&path).await.expect("it listens");
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is taken");
    drop(running(&path).await);
    let predecessor = running(&path).await;
    assert_eq!(predecessor.release().await.expect("the place is free").0, Released::SteppedBack(Vec::new()));
    ours.await.expect("it was released");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_does_not_serve_is_given_up() {
    let folder = folder();
    let path = folder.path().join("hot");
    let place = Handover::claim(&path).expect("the folder is ours");
    let ours = tokio::spawn(async move { place.successor(|| Ok(Some(sockets()))).await.pid });
    // Time passes whenever both wait for each other, so only the limit can end this.
    let slow = running(&path).await;
    tokio::time::sleep(READY_WITHIN * 2).await;
    assert_eq!(slow.release().await.expect("the place is free").0, Released::GoesOn);
    // One that waits for something else is told meanwhile; of one that is gone nobody is told.
    let mut waiting = running(&path).await;
    assert!(matches!(waiting.gives_up().await, HandoverError::GivenUp { pid } if pid == std::process::id()));
    assert!(!ours.is_finished(), "the next may come");
    let mut waiting = running(&path).await;
    ours.abort();
    let told = timeout(READY_WITHIN * 2, waiting.gives_up()).await;
    assert!(told.is_err(), "its sockets are this one's now");
    assert_eq!(waiting.release().await.expect("the place is free").0, Released::Gone);
}

#[tokio::test]
async fn what_is_no_such_process_is_told_apart() {
    let folder = folder();
    let path = folder.path().join("hot");
    fs::write(&path, "a file").expect("the folder is ours");
    assert!(matches!(find(&path).await, Err(HandoverError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&path).expect("it is left alone"), "a file");
    fs::remove_file(&path).expect("it is ours");
    drop(UnixListener::bind(&path).expect("the name is free"));
    assert!(matches!(find(&path).await, Ok(Found::Nobody)));
    let place = Handover::claim(&path).expect("what nobody listens at is replaced");
    drop(place);
    for (answer, said) in [
        // By another protocol the rest is shorter.
        (&b"TGHO\x01\x01\x00"[..], "by protocol 1"),
        (b"HTTP/1.1 400 Bad", "no running proxy"),
        (b"TGHO\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "no running proxy"),
    ] {
        fs::remove_file(&path).expect("it is ours");
        let listener = UnixListener::bind(&path).expect("the name is free");
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("one comes");
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.expect("it says who it is");
            stream.write_all(answer).await.expect("it listens");
            (stream, hello)
        });
        let error = find(&path).await.err().expect("it is none").to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(answering.await.expect("it answered").1, *b"TGHO\x03");
    }
    let error = Handover::claim(&folder.path().join("no/folder")).err().expect("there is no such folder");
    assert!(error.to_string().contains("name a file in a folder that this user may write to"), "{error}");
}

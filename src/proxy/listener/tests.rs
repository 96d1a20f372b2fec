//! Connections that wait when a worker stops to accept.

use super::*;
use crate::mesh::snapshot::NodeConfig;
use crate::proxy::config::{Compiled, Endpoints};
use crate::proxy::shared::Shared;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use tokio::runtime::LocalOptions;

/// Connections in each queue.
const WAITING: usize = 20;
/// Which branch a worker takes first is by chance, so one try would prove nothing.
const TRIES: usize = 10;

/// What clients read whose connections a worker finds in its queue when it stops.
fn answers(has_successor: bool) -> Vec<String> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let first = Compiled::new(0, Arc::new(NodeConfig::default()), &Endpoints::new(), Arc::default());
    let shared = Arc::new(Shared::new(("proxy".into(), nowhere, None, None), 1000, 1, 1, first));
    let socket = bind(nowhere, 1).expect("a port").remove(0);
    let address = socket.local_addr().expect("it is bound");
    let ask = |_| {
        let mut client = std::net::TcpStream::connect(address).expect("it listens");
        client.write_all(b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n").expect("the queue takes it");
        client
    };
    let clients: Vec<_> = (0..WAITING).map(ask).collect();
    shared.has_successor.send_replace(has_successor);
    shared.phase.send_replace(Phase::Ending { grace: Duration::ZERO, deadline: Duration::from_secs(30) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let view = Arc::clone(&shared.workers[0]);
        let worker = Rc::new(Worker::new(Arc::clone(&shared), view));
        let socket = TcpListener::from_std(socket).expect("it is a socket");
        run(worker, 0, (socket, None)).await
    });
    let read = |mut client: std::net::TcpStream| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).map_or_else(|error| error.to_string(), |_| answer)
    };
    clients.into_iter().map(read).collect()
}

#[test]
fn what_waits_in_a_queue_is_answered_whoever_else_has_the_socket() {
    for has_successor in [false, true] {
        for _ in 0..TRIES {
            for answer in answers(has_successor) {
                assert!(answer.starts_with("HTTP/1.1 404"), "{answer:?}");
                assert!(answer.contains("connection: close"), "{answer:?}");
            }
        }
    }
}

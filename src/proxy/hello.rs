//! The first words of a connection that may be one of TLS: which name its client asks for. Under `DROP_ALL` AWS's own names
//! are let out by it (appmesh "Egress filter"), as by Envoy's `tls_inspector`.

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a client may take for its first message: Envoy's `listener_filters_timeout`, after which it closes too.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest first message, as of Envoy's `tls_inspector` (16 KiB and its frame); names and keys fill a few hundred bytes.
const HELLO_MAX: usize = 17 * 1024;
/// Type of a record with a message of the handshake in it (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// What AWS's services are called under.
const AWS: &str = ".amazonaws.com";

/// How a connection begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Not with a handshake of TLS; nothing was read.
    Plain,
    /// With one that asks for this name, or for none; `read` is all that was read.
    Tls {
        /// In lower case.
        name: Option<String>,
        read: Bytes,
    },
}

/// Waits for the beginning of a connection. `None` where it ended, took too long, or began a handshake that is none.
pub(super) async fn beginning(stream: &mut TcpStream) -> Option<Beginning> {
    timeout(HELLO_TIMEOUT, read(stream)).await.ok()?.ok()
}

async fn read(stream: &mut TcpStream) -> io::Result<Beginning> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first != [HANDSHAKE] {
        return Ok(Beginning::Plain);
    }
    let mut read = BytesMut::new();
    let mut acceptor = Acceptor::default();
    loop {
        let before = read.len();
        if before >= HELLO_MAX || stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut new = &read[before..];
        while !new.is_empty() {
            acceptor.read_tls(&mut new)?;
            match acceptor.accept() {
                Ok(Some(hello)) => {
                    let name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
                    return Ok(Beginning::Tls { name, read: read.freeze() });
                }
                Ok(None) => {}
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Whether a name is one of AWS's services, which `DROP_ALL` does not keep from anybody.
pub(super) fn is_aws(name: &str) -> bool {
    name.strip_suffix(AWS).is_some_and(|service| !service.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[test]
    fn only_what_is_under_awss_name_is_aws() {
        for (name, is) in [
            ("sqs.us-west-2.amazonaws.com", true),
            ("a.amazonaws.com", true),
            ("amazonaws.com", false),
            (".amazonaws.com", false),
            ("notamazonaws.com", false),
            ("sqs.amazonaws.com.evil.test", false),
        ] {
            assert_eq!(is_aws(name), is, "{name}");
        }
    }

    /// The first message of a client that asks for this name.
    fn hello(name: &'static str) -> Vec<u8> {
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// How a connection begins whose client says this, in these pieces.
    async fn said(pieces: Vec<Vec<u8>>) -> Option<Beginning> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let says = async move {
            for piece in pieces {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            client
        };
        tokio::join!(beginning(&mut server), says).0
    }

    #[tokio::test]
    async fn a_name_is_read_however_it_comes_and_nothing_is_lost() {
        let whole = hello("SQS.us-west-2.amazonaws.com");
        let name = Some("sqs.us-west-2.amazonaws.com".to_owned());
        let pieces: Vec<Vec<u8>> = whole.chunks(7).map(<[u8]>::to_vec).collect();
        for pieces in [vec![whole.clone()], pieces] {
            let Some(Beginning::Tls { name: found, read }) = said(pieces).await else { panic!("no handshake") };
            assert_eq!((found, &read[..]), (name.clone(), &whole[..]));
        }
        let Some(Beginning::Tls { name: None, .. }) = said(vec![hello("192.0.2.1")]).await else {
            panic!("an address is no name")
        };
    }

    #[tokio::test]
    async fn what_is_no_handshake_is_plain_or_nothing() {
        assert_eq!(said(vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()]).await, Some(Beginning::Plain));
        assert_eq!(said(Vec::new()).await, None);
        let half = hello("a.test")[..40].to_vec();
        assert_eq!(said(vec![half]).await, None, "it ended in the middle");
        assert_eq!(said(vec![vec![HANDSHAKE; 64]]).await, None);
        // A message that says it is long is not waited for beyond its bound.
        let endless = [&[HANDSHAKE, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 40_000]].concat();
        assert_eq!(said(vec![endless]).await, None);
    }
}

//! A server that answers what a test says, and keeps what it was asked.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status and body, as JSON.
    Body(u16, String),
    /// A success with this text, and no JSON.
    Plain(&'static str),
    /// These bytes, and the end of the connection.
    Raw(&'static str),
    /// Nothing, and the connection stays open.
    Nothing,
    /// A body of so many bytes.
    Long(usize),
}

/// One listener on 127.0.0.1; it ends with this value.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    reply: Arc<Mutex<Reply>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, reply): (Arc<Mutex<Vec<String>>>, _) = (Arc::default(), Arc::new(Mutex::new(reply)));
        let (seen, said) = (Arc::clone(&asked), Arc::clone(&reply));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, said) = (Arc::clone(&seen), Arc::clone(&said));
                tokio::spawn(async move {
                    let request = request(&mut stream).await;
                    seen.lock().unwrap().push(request);
                    let reply = said.lock().unwrap().clone();
                    let head = |status: u16, length: usize| {
                        format!(
                            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                             connection: close\r\nlocation: http://127.0.0.1:1/\r\n\r\n"
                        )
                    };
                    let text = match reply {
                        Reply::Body(status, body) => head(status, body.len()) + &body,
                        Reply::Plain(body) => {
                            head(200, body.len()).replace("application/json", "text/plain; version=0.0.4") + body
                        }
                        Reply::Raw(text) => text.to_owned(),
                        Reply::Long(bytes) => head(200, bytes) + &" ".repeat(bytes),
                        Reply::Nothing => std::future::pending().await,
                    };
                    // Whoever has read enough hangs up.
                    let _ = stream.write_all(text.as_bytes()).await;
                });
            }
        });
        Self { url, asked, reply, task }
    }

    /// From now on it answers this.
    pub(crate) fn reply(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    /// Every request so far, head and body.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request with as much body as it announces.
async fn request(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return text,
            Ok(read) => bytes.extend_from_slice(&more[..read]),
        }
    }
}

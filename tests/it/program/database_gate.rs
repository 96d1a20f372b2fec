//! Stands between a daemon and PostgreSQL, and cuts what the daemon writes there. A write is known by what it says (its
//! statements, the input, the state it leads to), so that each is cut once and the same one, tried again, goes through.

use super::gate::Cut;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A gate for PostgreSQL: transactions that change rows, and changes outside of one.
pub(crate) struct DatabaseGate {
    pub(crate) port: u16,
    writes: Arc<Writes>,
    serving: JoinHandle<()>,
}

impl Drop for DatabaseGate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Writes {
    cut: Cut,
    /// Of the writes that differ from those before, every n-th is cut.
    every: usize,
    seen: Mutex<BTreeSet<String>>,
    open: Mutex<bool>,
    cuts: mpsc::UnboundedSender<String>,
}

impl Writes {
    fn is_cut(&self, write: &str) -> bool {
        let mut seen = self.seen.lock().unwrap();
        *self.open.lock().unwrap() && seen.insert(write.to_owned()) && seen.len().is_multiple_of(self.every)
    }
}

impl DatabaseGate {
    /// Before a server on a port of 127.0.0.1, which is spoken to without TLS.
    pub(crate) async fn start(server: u16, cut: Cut, every: usize, cuts: mpsc::UnboundedSender<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let writes = Arc::new(Writes { cut, every, seen: Mutex::default(), open: Mutex::new(false), cuts });
        let shared = Arc::clone(&writes);
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(relay(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, writes, serving }
    }

    /// Cuts nothing any more, or begins to.
    pub(crate) fn cuts(&self, cuts: bool) {
        *self.writes.open.lock().unwrap() = cuts;
    }

    /// Writes that differ, those that were not cut included.
    pub(crate) fn seen(&self) -> usize {
        self.writes.seen.lock().unwrap().len()
    }
}

async fn relay(client: TcpStream, server: u16, writes: Arc<Writes>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut conversation = Conversation::default();
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                // The daemon waits for each answer, so whatever makes a write last is the end of what was read.
                let write = conversation.hear(&asked[..length]).filter(|write| writes.is_cut(write));
                if write.is_some() && writes.cut == Cut::Before {
                    let _ = writes.cuts.send(write.unwrap_or_default());
                    return std::future::pending().await;
                }
                if to_server.write_all(&asked[..length]).await.is_err() { return }
                let Some(write) = write else { continue };
                let Ok(length @ 1..) = from_server.read(&mut answered).await else { return };
                if writes.cut == Cut::After {
                    let _ = to_client.write_all(&answered[..length]).await;
                }
                let _ = writes.cuts.send(write);
                if writes.cut == Cut::During {
                    return std::future::pending().await;
                }
            }
            read = from_server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if to_client.write_all(&answered[..length]).await.is_err() { return }
            }
        }
    }
}

/// What a client says on one connection: messages of the protocol's version 3, of which four matter here. See
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
#[derive(Default)]
struct Conversation {
    /// Bytes of a message that is not complete.
    rest: Vec<u8>,
    /// Whether the first message, which has no type, has been heard.
    is_started: bool,
    /// Prepared statements by name.
    statements: HashMap<String, String>,
    in_transaction: bool,
    /// What the transaction changes so far.
    changes: Vec<String>,
}

impl Conversation {
    /// What becomes lasting with these bytes, if anything does.
    fn hear(&mut self, bytes: &[u8]) -> Option<String> {
        self.rest.extend_from_slice(bytes);
        let mut lasting = None;
        loop {
            let typed = usize::from(self.is_started);
            let Some(length) = self.rest.get(typed..typed + 4) else { return lasting };
            let length = usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
            if self.rest.len() < typed + length {
                return lasting;
            }
            let message: Vec<u8> = self.rest.drain(..typed + length).collect();
            if self.is_started {
                lasting = self.message(message[0], &message[5..]).or(lasting);
            }
            self.is_started = true;
        }
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> Option<String> {
        match kind {
            b'Q' => {
                let said = text(body).0;
                let changes = std::mem::take(&mut self.changes);
                self.in_transaction = said.starts_with("BEGIN");
                (said == "COMMIT" && !changes.is_empty()).then(|| changes.join(", "))
            }
            b'P' => {
                let (name, rest) = text(body);
                self.statements.insert(name, text(rest).0);
                None
            }
            b'B' => {
                let (name, rest) = text(text(body).1);
                let change = change(self.statements.get(&name)?, rest)?;
                if self.in_transaction {
                    self.changes.push(change);
                    return None;
                }
                Some(change)
            }
            _ => None,
        }
    }
}

/// Text up to its zero byte, and what follows.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), &bytes[end + 1..])
}

/// A statement that changes rows, in a few words: what it does to which table, and what its values say.
fn change(sql: &str, formats_and_values: &[u8]) -> Option<String> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let (verb, table) = match words[..] {
        ["INSERT", "INTO", table, ..] => ("insert", table),
        ["DELETE", "FROM", table, ..] => ("delete", table),
        ["UPDATE", table, ..] => ("update", table),
        _ => return None,
    };
    let values = values(formats_and_values);
    let mut says: Vec<String> = values.iter().filter_map(|value| gist(value)).collect();
    if (verb, table) == ("update", "effects") {
        // The number of the input that wanted it: the same whenever it is attempted.
        says.extend(values.iter().find_map(|value| Some(i64::from_be_bytes((*value).try_into().ok()?).to_string())));
    }
    Some(format!("{verb} {table} {}", says.join(" ")).trim_end().to_owned())
}

/// The values of a Bind message, from its list of formats on; those that are null are left out.
fn values(bytes: &[u8]) -> Vec<&[u8]> {
    let number = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut rest = &bytes[2 + 2 * number(bytes)..];
    let count = number(rest);
    rest = &rest[2..];
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
        rest = &rest[4..];
        if let Ok(length) = usize::try_from(length) {
            values.push(&rest[..length]);
            rest = &rest[length..];
        }
    }
    values
}

/// What a value says that is the same when it is said again: times, numbers and identifiers are not.
fn gist(value: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(value).ok()?;
    if ["settled", "superseded"].contains(&word) {
        return Some(word.to_owned());
    }
    let mut said: Value = serde_json::from_str(word).ok().filter(Value::is_object)?;
    if let Some(phase) = said.get_mut("phase").and_then(Value::as_object_mut) {
        phase.remove("until");
    }
    let kinds = ["/event/kind", "/event/command/verb", "/event/outcome/result", "/do", "/canary/1", "/phase"];
    let mut parts: Vec<String> = kinds.iter().filter_map(|at| said.pointer(at)).map(Value::to_string).collect();
    if let Some(pending) = said.get("pending").and_then(Value::as_object) {
        parts.push(json!({"pending": pending.len()}).to_string());
    }
    (!parts.is_empty()).then(|| parts.join(" ").replace('"', ""))
}

//! Hot restart: the process that runs hands its listening sockets to the one that is to replace it.
//!
//! Both run with the same path of a Unix socket. The newcomer connects there, and the words are few:
//!
//! ```text
//! newcomer -> running   TGHO, protocol                     who are you
//! running -> newcomer   TGHO, protocol, counts, process,   sockets by SCM_RIGHTS (unix(7)), this one's own listener first
//!                       sockets
//! newcomer -> running   R                                  I serve
//! running -> newcomer   G, fuses that tripped              and I do not any more; or X: you were given up
//! ```
//!
//! Nobody closes a listening socket in between, so whatever waits in its queue is taken by one of the two. Until `R` the
//! running process serves as if nothing were; when the newcomer dies or takes too long, it goes on. When the running process
//! dies, the newcomer has its sockets and serves alone. One that ends says so by hanging up. Only processes of the same user are
//! talked to.

use super::sockets::{Counts, Sockets};
use super::tripped::{self, Tripped};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// What the words begin with, so that a socket of something else is recognised.
const MAGIC: [u8; 4] = *b"TGHO";
/// Which words these are; another number for every change of them.
const PROTOCOL: u8 = 3;
/// Sockets are counted by kind: egress, ingress, admin, gateway.
const KINDS: usize = 4;
/// The counts, and the number of the process: the system tells only whose the first one was.
const OFFER_LENGTH: usize = KINDS * 2 + 4;
const READY: u8 = b'R';
const RELEASED: u8 = b'G';
const GIVEN_UP: u8 = b'X';
/// Sockets in one message; the kernel takes 253 (SCM_MAX_FD).
const AT_ONCE: usize = 64;
/// How long the other side may take for a word that needs nothing from anywhere else. A busy machine needs milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a newcomer may take until it serves: it waits for its configuration, and for 5 s before it takes the one in its
/// file. After that another newcomer has its turn.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Why a process cannot take over, or cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The path leads nowhere.
    #[error("--hot-restart {path} cannot be used: {source}; name a file in a folder that this user may write to")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else has the name.
    #[error("--hot-restart {path} is no socket: name a file that does not exist yet")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another user's process: it would be given this one's clients, or give its own.
    #[error("--hot-restart {path} belongs to user {theirs}, and this process runs as {ours}: run both as one user")]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Its user.
        theirs: u32,
        /// The user of this process.
        ours: u32,
    },
    /// The running process is too old or too new.
    #[error(
        "the process at --hot-restart {path} hands over by protocol {theirs}, and this version takes over by {PROTOCOL}: end \
         that process before this one is started"
    )]
    Protocol {
        /// The path.
        path: PathBuf,
        /// What it speaks.
        theirs: u8,
    },
    /// It is there and says nothing.
    #[error(
        "the process at --hot-restart {path} did not answer within {} s: it does not serve yet, or another one is taking over \
         from it; try again", ANSWER_WITHIN.as_secs()
    )]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// It says what no such process says.
    #[error(
        "what listens at --hot-restart {path} is no running proxy, or ended just now: {source}; try again, or name another file"
    )]
    Broken {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// This process took too long.
    #[error(
        "process {pid}, which still serves, did not wait any longer than {} s for this one to be ready: see above what it \
         waited for, and start it again", READY_WITHIN.as_secs()
    )]
    GivenUp {
        /// The running process.
        pid: u32,
    },
}

/// The process that runs, of which a newcomer has the sockets.
pub struct Predecessor {
    stream: UnixStream,
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
    sockets: Sockets,
    /// Its number, as it says.
    pub pid: u32,
}

/// What a predecessor did when its successor was ready.
#[derive(Debug, Clone, PartialEq)]
pub enum Released {
    /// It accepts no more and has closed its admin address. These fuses of it have tripped.
    SteppedBack(Vec<Tripped>),
    /// It is gone.
    Gone,
    /// It goes on by itself: this process must end.
    GoesOn,
}

/// Where successors come to.
pub struct Handover {
    listener: UnixListener,
    path: PathBuf,
}

/// A process that serves beside this one and waits until it has the admin address.
pub struct Successor {
    stream: UnixStream,
    /// Its number; 0 where the system does not tell.
    pub pid: i32,
}

/// Who is at a path of hot restarts.
pub enum Found {
    /// Nobody.
    Nobody,
    /// A process that ends, and whose addresses become free meanwhile.
    Ending,
    /// A process that serves and has handed over its sockets.
    Running(Box<Predecessor>),
}

/// Asks the process that runs with this path for its sockets.
///
/// # Errors
/// [`HandoverError`]: what is there is no such process, or cannot hand over to this one.
pub async fn find(path: &Path) -> Result<Found, HandoverError> {
    let failed = |source| HandoverError::Path { path: path.to_owned(), source };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nobody),
        Err(error) => return Err(failed(error)),
    };
    if !there.file_type().is_socket() {
        return Err(HandoverError::NotASocket { path: path.to_owned() });
    }
    same_user(path, there.uid())?;
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        // What is left of a process that ended.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            return Ok(Found::Nobody);
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(HandoverError::Busy { path: path.to_owned() });
        }
        Err(error) => return Err(failed(error)),
    };
    let peer = stream.peer_cred().map_err(failed)?;
    same_user(path, peer.uid())?;
    let asked = timeout(ANSWER_WITHIN, ask(stream, path)).await;
    asked.map_err(|_| HandoverError::Busy { path: path.to_owned() })?
}

fn same_user(path: &Path, theirs: u32) -> Result<(), HandoverError> {
    let ours = rustix::process::geteuid().as_raw();
    if theirs == ours { Ok(()) } else { Err(HandoverError::Foreign { path: path.to_owned(), theirs, ours }) }
}

async fn ask(mut stream: UnixStream, path: &Path) -> Result<Found, HandoverError> {
    let broken = |source| HandoverError::Broken { path: path.to_owned(), source };
    let strange = || broken(io::Error::other("it does not speak of sockets"));
    let mut words = [0; MAGIC.len() + 1];
    let asked = stream.write_all(&hello()).await;
    match asked.and(stream.read_exact(&mut words).await) {
        Ok(_) => {}
        Err(error) if is_end(&error) => return Ok(Found::Ending),
        Err(error) => return Err(broken(error)),
    }
    // What follows has another length in another protocol.
    match (words[..MAGIC.len()] == MAGIC, words[MAGIC.len()]) {
        (true, PROTOCOL) => {}
        (true, theirs) => return Err(HandoverError::Protocol { path: path.to_owned(), theirs }),
        (false, _) => return Err(strange()),
    }
    let mut offered = [0; OFFER_LENGTH];
    stream.read_exact(&mut offered).await.map_err(broken)?;
    let (counts, pid) = read_offer(offered).ok_or_else(strange)?;
    let mut descriptors = receive(&stream, counts.total() + 1).await.map_err(broken)?;
    let listener = std::os::unix::net::UnixListener::from(descriptors.remove(0));
    let sockets = Sockets::from_descriptors(counts, descriptors);
    let path = path.to_owned();
    Ok(Found::Running(Box::new(Predecessor { stream, path, listener, sockets, pid })))
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn hello() -> [u8; MAGIC.len() + 1] {
    let mut hello = [PROTOCOL; MAGIC.len() + 1];
    hello[..MAGIC.len()].copy_from_slice(&MAGIC);
    hello
}

fn offer(counts: Counts, pid: u32) -> [u8; OFFER_LENGTH] {
    let mut offer = [0; OFFER_LENGTH];
    let (counted, process) = offer.split_at_mut(KINDS * 2);
    for (place, count) in counted.chunks_exact_mut(2).zip(counts.by_kind()) {
        place.copy_from_slice(&count.to_le_bytes());
    }
    process.copy_from_slice(&pid.to_le_bytes());
    offer
}

/// How many sockets will come, and from which process; `None` where no proxy has so many.
fn read_offer(offer: [u8; OFFER_LENGTH]) -> Option<(Counts, u32)> {
    let number = |at: usize| u16::from_le_bytes([offer[2 * at], offer[2 * at + 1]]);
    let counts = Counts { egress: number(0), ingress: number(1), admin: number(2), gateway: number(3) };
    let process = &offer[KINDS * 2..];
    let pid = u32::from_le_bytes([process[0], process[1], process[2], process[3]]);
    counts.are_possible().then_some((counts, pid))
}

/// Sends descriptors, each message with a byte that carries them.
async fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        let sending = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(io::Error::other("no room for so many sockets"));
            }
            Ok(sendmsg(stream.as_fd(), &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?)
        };
        stream.async_io(Interest::WRITABLE, sending).await?;
    }
    Ok(())
}

/// Receives so many descriptors. They end with this process, not with programs that it starts.
async fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let before = all.len();
        let receiving = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    all.extend(descriptors);
                }
            }
            Ok(())
        };
        stream.async_io(Interest::READABLE, receiving).await?;
        if all.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(all)
}

impl Predecessor {
    /// Its sockets, once.
    pub fn take_sockets(&mut self) -> Sockets {
        std::mem::take(&mut self.sockets)
    }

    /// Resolves when it says that it waits no longer for this process; never when it is gone, and its sockets are this one's.
    /// Until then this process may wait for whatever it waits for, and drop this wait at any time.
    pub async fn gives_up(&mut self) -> HandoverError {
        match self.stream.read_u8().await {
            Ok(_) => HandoverError::GivenUp { pid: self.pid },
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells it that this process serves, and waits until it has made room. Then successors of this process come to the
    /// place to which this one came.
    ///
    /// # Errors
    /// [`HandoverError::Path`]: its place cannot be taken over. It was told nothing then and goes on serving.
    pub async fn release(mut self) -> Result<(Released, Handover), HandoverError> {
        // First, for there is no way back from the word below.
        let place = Handover::of(self.listener, self.path)?;
        let answer = timeout(READY_WITHIN, async {
            // If it has given this process up, it said so and may be gone from the other end: its word is still to be read.
            let _ = self.stream.write_u8(READY).await;
            let word = self.stream.read_u8().await?;
            Ok::<_, io::Error>((word, if word == RELEASED { told(&mut self.stream).await } else { Vec::new() }))
        });
        let released = match answer.await {
            Ok(Ok((RELEASED, tripped))) => Released::SteppedBack(tripped),
            Ok(Ok(_)) => Released::GoesOn,
            // Gone, or so stuck that it is as good as gone; both of them serving does no harm.
            Ok(Err(_)) | Err(_) => Released::Gone,
        };
        Ok((released, place))
    }
}

/// What a predecessor says of its fuses. It serves no more, so nothing is won by waiting for one that does not get it said.
async fn told(stream: &mut UnixStream) -> Vec<Tripped> {
    let told = timeout(ANSWER_WITHIN, tripped::receive(stream)).await;
    told.map_err(io::Error::other).flatten().unwrap_or_else(|error| {
        tracing::warn!(%error, "fuses of the process before this one that tripped are not known here");
        Vec::new()
    })
}

impl Handover {
    /// Takes the path, of which [`find`] said that nobody is there.
    ///
    /// # Errors
    /// [`HandoverError::Path`].
    pub fn claim(path: &Path) -> Result<Self, HandoverError> {
        let failed = |source| HandoverError::Path { path: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
        // Made under another name: under its own it is there with its rights, or not at all.
        let temporary = path.with_file_name(format!(".{}.{}", name.display(), std::process::id()));
        let made = || {
            let _ = fs::remove_file(&temporary);
            let listener = std::os::unix::net::UnixListener::bind(&temporary)?;
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
            fs::rename(&temporary, path)?;
            Ok(listener)
        };
        match made() {
            Ok(listener) => Self::of(listener, path.to_owned()),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(failed(error))
            }
        }
    }

    fn of(listener: std::os::unix::net::UnixListener, path: PathBuf) -> Result<Self, HandoverError> {
        let made = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        match made {
            Ok(listener) => Ok(Self { listener, path }),
            Err(source) => Err(HandoverError::Path { path, source }),
        }
    }

    /// Waits for a successor that serves. `sockets` are asked for whenever one comes; without any it is told that this process
    /// ends. May be dropped at any time: a newcomer that is half-way then serves alone.
    pub async fn successor(&self, sockets: impl Fn() -> io::Result<Option<Sockets>>) -> Successor {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(successor) = self.meet(stream, &sockets).await {
                        return successor;
                    }
                }
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "no successor can come for a moment");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// One newcomer, to the point where it serves, or ends, or takes too long.
    async fn meet(
        &self,
        mut stream: UnixStream,
        sockets: impl Fn() -> io::Result<Option<Sockets>>,
    ) -> Option<Successor> {
        let peer = stream.peer_cred().ok()?;
        let pid = peer.pid().unwrap_or(0);
        if let Err(error) = same_user(&self.path, peer.uid()) {
            tracing::warn!(pid, %error, "a process wanted to take over and may not");
            return None;
        }
        match timeout(ANSWER_WITHIN, self.offer_to(&mut stream, sockets)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return None,
            Ok(Err(error)) => {
                tracing::warn!(pid, %error, "a process wanted to take over and did not go on with it");
                return None;
            }
            Err(_) => {
                tracing::warn!(pid, "a process wanted to take over and said nothing more");
                return None;
            }
        }
        tracing::info!(pid, "a process is about to take over");
        match timeout(READY_WITHIN, stream.read_u8()).await {
            Ok(Ok(READY)) => return Some(Successor { stream, pid }),
            Ok(_) => tracing::warn!(pid, "the process that was to take over ended before it served; this one goes on"),
            Err(_) => {
                let waited_s = READY_WITHIN.as_secs();
                tracing::warn!(pid, waited_s, "the process that was to take over does not serve; this one goes on");
                // If it has just ended, it needs no telling.
                let _ = stream.write_u8(GIVEN_UP).await;
            }
        }
        None
    }

    /// Whether it has the sockets now.
    async fn offer_to(
        &self,
        stream: &mut UnixStream,
        sockets: impl Fn() -> io::Result<Option<Sockets>>,
    ) -> io::Result<bool> {
        let mut word = [0; MAGIC.len() + 1];
        stream.read_exact(&mut word).await?;
        if word[..MAGIC.len()] != MAGIC {
            return Err(io::Error::other("it does not ask for sockets"));
        }
        let Some(sockets) = sockets()? else { return Ok(false) };
        // It sees by the answer which protocol would have been understood.
        stream.write_all(&hello()).await?;
        if word != hello() {
            let error = format!("it takes over by protocol {}, and this version by {PROTOCOL}", word[MAGIC.len()]);
            return Err(io::Error::other(error));
        }
        stream.write_all(&offer(sockets.counts(), std::process::id())).await?;
        let mut descriptors = vec![self.listener.as_fd()];
        descriptors.extend(sockets.descriptors());
        send(stream, &descriptors).await?;
        Ok(true)
    }
}

impl Successor {
    /// Tells it that this process has stepped back, and which fuses of it have tripped.
    pub async fn release(mut self, tripped: &[Tripped]) {
        // If it is gone, nobody listens any more but those who still drain: nothing is left to do here.
        let told = async {
            self.stream.write_u8(RELEASED).await?;
            tripped::send(&mut self.stream, tripped).await
        };
        let _ = timeout(ANSWER_WITHIN, told).await;
    }
}

#[cfg(test)]
mod tests;

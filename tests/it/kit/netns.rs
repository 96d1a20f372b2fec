//! Network namespaces for one test: nameless, so that nothing has to be removed. Each lives as long as its keeper, a process
//! that ends when the test's end of a pipe is closed, which a killed test does too.

use crate::program::{Ran, command_of, finish, lacks};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use tokio::process::Command;

/// What is needed for one, and for rules in it.
const NEEDED: &str = "root, ip (iproute2), unshare, nsenter and setpriv (util-linux), iptables, curl";
/// Variants of iptables by preference; kernels have one of the two behind them, or both.
const VARIANTS: [&str; 3] = ["iptables", "iptables-nft", "iptables-legacy"];

/// A network namespace with its loopback interface up.
pub(crate) struct Namespace {
    keeper: Child,
    itself: File,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It ends by itself when it has no more input; waiting leaves no zombie.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Namespace {
    /// `None`, and said so, where this process may not make one.
    pub(crate) async fn new() -> Option<Self> {
        // The shell says when it is inside.
        let script = "ip link set lo up && echo in && exec cat >/dev/null";
        let mut keeper = std::process::Command::new("unshare");
        keeper.args(["--net", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut keeper) = keeper.spawn() else {
            lacks(NEEDED);
            return None;
        };
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let itself = File::open(format!("/proc/{}/ns/net", keeper.id()));
        let tools =
            ["nsenter", "setpriv", "ip", "curl"].map(|tool| std::process::Command::new(tool).arg("--version").output());
        let (Ok(itself), "in", true) = (itself, line.trim(), tools.iter().all(Result::is_ok)) else {
            let _ = (keeper.kill(), keeper.wait());
            lacks(NEEDED);
            return None;
        };
        Some(Self { keeper, itself })
    }

    /// A program in it, as this user and in its group; SIGKILL comes to it with the end of the thread that starts it. It may
    /// read every file, since the sources of a test may lie where other users may not look.
    pub(crate) fn command(&self, user: u32, program: &str) -> Command {
        let mut command = command_of("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.keeper.id()));
        command.args(["setpriv", "--pdeathsig", "KILL", "--clear-groups"]);
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        if user != 0 {
            command.args(["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
        }
        command.arg(program).env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a program in it as root, to its end.
    pub(crate) async fn run(&self, program: &str, arguments: &[String]) -> Ran {
        let mut command = self.command(0, program);
        command.args(arguments);
        finish(command).await
    }

    /// `ip` with these words, which has to succeed.
    pub(crate) async fn ip(&self, words: &str) {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        self.run("ip", &words).await.expect(0);
    }

    /// Connects both by a wire whose end is called `eth0` in each, with these addresses: the first of each with its prefix.
    pub(crate) async fn wire(&self, mine: &str, other: &Self, theirs: &[&str]) {
        let peer = other.keeper.id();
        self.ip(&format!("link add eth0 type veth peer name eth0 netns {peer}")).await;
        self.ip(&format!("addr add {mine} dev eth0")).await;
        for address in theirs {
            other.ip(&format!("addr add {address} dev eth0")).await;
        }
        for side in [self, other] {
            side.ip("link set eth0 up").await;
        }
    }

    /// A variant of iptables that makes rules here, with what App Mesh's need; `None`, and said so, without one.
    pub(crate) async fn iptables(&self) -> Option<&'static str> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for variant in VARIANTS {
            let there = command_of(variant).arg("--version").output().await.is_ok_and(|output| output.status.success());
            let rule = |what: &str| words(&format!("-t nat {what} OUTPUT -m owner --uid-owner 1 -j RETURN"));
            if there && self.run(variant, &rule("-A")).await.code == Some(0) {
                self.run(variant, &rule("-D")).await.expect(0);
                return Some(variant);
            }
        }
        lacks(NEEDED);
        None
    }

    /// Does something on a thread that is in the namespace: sockets that it makes stay there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.itself.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        match std::thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A listener in it.
    pub(crate) fn listen(&self, address: Ipv4Addr, port: u16) -> tokio::net::TcpListener {
        let listener = self.within(|| std::net::TcpListener::bind((address, port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(listener).unwrap()
    }

    /// What a GET gets there: the body where the status is one of success.
    pub(crate) async fn get(&self, url: &str) -> Option<String> {
        let mut curl = self.command(0, "curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "60", url]);
        let ran = finish(curl).await;
        (ran.code == Some(0)).then_some(ran.stdout)
    }
}

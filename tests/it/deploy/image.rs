//! What the image holds, put together on this machine by the script of its recipe, and run in it: as the user of App Mesh's
//! sidecars, on a root file system that is read-only.

use crate::program::{FREE_PORTS, Process, TIDEGATE, lacks};
use crate::shell::root;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::process::Command;

/// Runs `"$@"` in the directory `$1` as the root of its file system, which it may read and nothing else but for a volume.
const CONTAINER: &str = r#"
root=$1; shift
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" && mount -t tmpfs -o mode=1777 volume "$root/var/lib/tidegate" &&
cd "$root" && exec chroot --userspec=1337:1337 "$root" "$@"
"#;

/// Bytes of a program that was built with `--profile dist` when this was written; the recipe measures the one that it makes.
const PROGRAM: u64 = 33_920_000;
/// Bytes that an image may have.
const LIMIT: u64 = 40_000_000;

/// The image's own, where `.ci/peers curl` builds it.
fn curl() -> PathBuf {
    root().join(".peers/curl")
}

struct Image {
    directory: TempDir,
}

impl Image {
    /// By the script of the recipe, with the program under test.
    async fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle.pem");
        std::fs::write(&bundle, "roots of RDS").unwrap();
        let image = Self { directory };
        let mut script = Command::new(root().join("deploy/image-root"));
        let made = script.args([Path::new(TIDEGATE), &bundle, &curl(), &image.root()]).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        image
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A program in it.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", CONTAINER, "sh"]).arg(self.root()).args(words);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// A line for its shell.
    async fn shell(&self, line: &str) -> Output {
        self.command(&["/bin/sh", "-c", line]).output().await.unwrap()
    }

    async fn size(&self) -> Output {
        Command::new(root().join("deploy/image-size")).arg(self.root()).output().await.unwrap()
    }
}

/// Whether this is root on a Linux that lets it change roots and mount, with what the image is made of.
async fn can_be_made() -> bool {
    let try_it = "for name in ldd grep chroot; do command -v $name || exit 1; done
        test -e /etc/ssl/certs/ca-certificates.crt && mount -t tmpfs try /mnt && test -x \"$1/curl\"";
    let tried = Command::new("unshare").args(["--mount", "sh", "-c", try_it, "sh"]).arg(curl()).output().await;
    tried.is_ok_and(|tried| tried.status.success())
        || lacks("root, unshare, ldd, ca-certificates and .peers/curl (.ci/peers curl)")
}

#[tokio::test]
async fn the_image_runs_as_a_sidecar_on_a_root_that_is_read_only() {
    if !can_be_made().await {
        return;
    }
    let image = Image::make().await;
    let words = ["tidegate", "local", "--output", "json", "--data-dir", "/var/lib/tidegate/mesh"];
    let mut process =
        Process::spawn(image.command(&[&words[..], &["--policies", "/etc/tidegate/policies"], &FREE_PORTS].concat()));
    let addresses = process.addresses().await;

    // The health check of App Mesh's task definitions, word for word but for the port.
    let guide = std::fs::read_to_string(root().join("tests/golden/guide-task-definition.json")).unwrap();
    let guide: Value = serde_json::from_str(&guide).unwrap();
    let envoy = guide["containerDefinitions"].as_array().unwrap().iter().find(|one| one["name"] == "envoy").unwrap();
    assert_eq!(envoy["user"], "1337");
    let check = envoy["healthCheck"]["command"][1].as_str().unwrap();
    let at = |port: u16| check.replace(":9901", &format!(":{port}"));
    let healthy = image.shell(&at(addresses["admin"].port())).await;
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    assert!(!image.shell(&at(addresses["egress"].port())).await.status.success(), "it finds LIVE everywhere");
    // Checks that people write themselves may want TLS.
    let https = image.shell("curl --version | grep -q '^Protocols: http https'").await;
    assert!(https.status.success(), "{}", String::from_utf8_lossy(&https.stderr));

    let health =
        image.command(&["tidegate", "health", "--server", &format!("http://{}", addresses["api"])]).output().await;
    let health = health.unwrap();
    assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
    for place in ["/", "/tmp", "/etc/tidegate", "/usr/local/bin"] {
        assert!(!image.shell(&format!(": >{place}/x")).await.status.success(), "{place} can be written");
    }
    assert!(image.shell(": >/var/lib/tidegate/x").await.status.success());
}

#[tokio::test]
async fn what_the_image_holds_beside_the_program_leaves_room_for_it() {
    if !can_be_made().await {
        return;
    }
    let image = Image::make().await;
    let program = std::fs::File::options().write(true).open(image.root().join("usr/local/bin/tidegate")).unwrap();
    program.set_len(PROGRAM).unwrap();
    let size = image.size().await;
    let said = String::from_utf8(size.stdout).unwrap();
    #[expect(clippy::print_stdout, reason = "how large the image is: shown with --no-capture")]
    {
        println!("{said}");
    }
    assert!(size.status.success() && said.contains("usr/local/bin/tidegate"), "{said}");
    let sum: u64 = said.split(' ').next().unwrap().parse().unwrap();
    for (more, code) in [(0, 0), (1, 1)] {
        program.set_len(PROGRAM + LIMIT - sum + more).unwrap();
        assert_eq!(image.size().await.status.code(), Some(code), "{more} bytes over {LIMIT}");
    }
}

//! Daemons of `tidegate serve` over a mesh and a proxy that run in another process, `tidegate local`, as they do in
//! production: what happens to a controller touches no request.

use super::service::{Behaviour, Service};
use super::world::{Api, Daemon, Files, strs};
use super::{Process, command};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate::base::secret::Redacted;

/// A mesh with a proxy and two services, without a controller that does anything.
pub(crate) struct Outside {
    pub(crate) files: Files,
    pub(crate) services: Arc<[Service; 2]>,
    pub(crate) mesh: Daemon,
}

impl Outside {
    pub(crate) async fn start(policy: &str, canary: Behaviour) -> Self {
        let services = [Service::start("v1").await, Service::start("v2").await];
        services[1].behave(canary);
        let files = Files::new([services[0].address.port(), services[1].address.port()], "");
        files.write("policies/checkout.yaml", policy);
        let mesh = Daemon::start(&files.local(&BTreeMap::new())).await;
        Self { files, services: Arc::new(services), mesh }
    }

    /// The configuration of a controller that everybody on this machine may use.
    pub(crate) fn config(&self) -> String {
        format!(
            "[api]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\n[policies]\ndirectory = \"{}\"\n[mesh]\nendpoint_url = \"{}\"\n\
             signing = \"none\"\n[telemetry]\nproxies = [\"{}\"]\n",
            self.files.at("policies"),
            self.mesh.url("appmesh"),
            self.mesh.url("admin")
        )
    }

    /// A controller by a configuration; it listens when this returns.
    pub(crate) async fn controller(&self, config: &str, variables: &[(&str, &str)]) -> Controller {
        let name = format!("tidegate-{}.toml", tidegate::clock::seed());
        self.files.write(&name, config);
        let arguments = ["serve", "--output", "json", "--config", &self.files.at(&name)].map(str::to_owned);
        let mut program = command(&strs(&arguments));
        program.envs(variables.iter().copied());
        let mut process = Process::spawn(program);
        let mut addresses = process.listening(1).await;
        for name in ["appmesh", "egress", "admin"] {
            addresses.insert(name.to_owned(), self.mesh.addresses[name]);
        }
        Controller { process, api: Api::new(addresses) }
    }

    /// One of several controllers on a database.
    pub(crate) async fn shared_controller(&self, database: &Redacted<String>) -> Controller {
        let config = self.config().replace("[policies]", "advertise_url = \"http://127.0.0.1:0\"\n[policies]");
        self.controller(&config, &[("TIDEGATE_DATABASE_URL", database.reveal())]).await
    }
}

/// A daemon of `tidegate serve`, and a client of it that knows the mesh as well.
pub(crate) struct Controller {
    pub(crate) process: Process,
    pub(crate) api: Api,
}

impl Controller {
    /// Whether it drives, by what it said last.
    pub(crate) fn drives(&self) -> bool {
        self.process.stdout.events("turn").last().is_some_and(|event| event["drives"] == true)
    }
}

//! `tidegate envoy bootstrap`: reads what the variables name, prints what the builder makes of it.

use super::args::{BootstrapArguments, EnvoyCommand};
use super::{Ended, Failure, Output, counted};
use crate::bootstrap::{self, Bootstrap, FILE_MAX, Options, Texts, Variables};
use crate::config::environment_variables;
use std::io::Read;

pub(super) fn run(command: EnvoyCommand, output: Output) -> Ended {
    match command {
        EnvoyCommand::Bootstrap(arguments) => print(arguments, &environment_variables(), output),
    }
}

fn print(arguments: BootstrapArguments, variables: &Variables, output: Output) -> Ended {
    let BootstrapArguments { node, control_plane, admin, egress, ingress, ca, certificate, key } = arguments;
    let options = Options { node, control_plane, admin, egress, ingress, ca, certificate, key };
    let texts = texts(variables)?;
    let Bootstrap { config, arguments, remarks } = match bootstrap::build(&options, variables, &texts) {
        Ok(made) => made,
        Err(problems) => {
            for problem in &problems {
                output.remark(&format!("error: {problem}"));
            }
            return Err(Failure::new(format!("no bootstrap: {}", counted(problems.len(), "problem"))).usage());
        }
    };
    if output.is_json() {
        output.json(&config);
    } else {
        output.raw(&bootstrap::emit(&config));
    }
    for remark in &remarks {
        output.remark(&format!("note: {remark}"));
    }
    if !arguments.is_empty() {
        output.remark(&format!("note: start Envoy with {}: no bootstrap can say so", arguments.join(" ")));
    }
    Ok(0)
}

fn texts(variables: &Variables) -> Result<Texts, Failure> {
    let mut texts = Texts::new();
    for (variable, path) in bootstrap::wanted(variables) {
        let text = read(&path).map_err(|why| {
            let hint =
                "it is read by this command, so it has to be here as well as where Envoy runs; or unset the variable";
            Failure::new(format!("{variable}: {path} cannot be read: {why}")).hint(hint).usage()
        })?;
        texts.insert(variable, text);
    }
    Ok(texts)
}

fn read(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let is_whole = u64::try_from(text.len()).is_ok_and(|length| length <= FILE_MAX);
    if is_whole { Ok(text) } else { Err(format!("it is larger than {FILE_MAX} bytes")) }
}

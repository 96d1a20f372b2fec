//! `tidegate doctor`: everything that the daemon needs, asked for in harmless ways, with a remedy for what is missing.

use super::args::DoctorArguments;
use super::serve::read_config;
use super::{Ended, FAILED, Output, counted};
use crate::app::{Finding, examine};
use crate::config::Environment;
use crate::config::daemon::Loaded;
use serde_json::json;

pub(super) async fn doctor(arguments: DoctorArguments, output: Output, environment: &dyn Environment) -> Ended {
    let Loaded { config, .. } = read_config(&arguments.config, environment)?;
    let mut failed = 0;
    let configuration = Finding::good("configuration", arguments.config.display().to_string());
    let found = std::iter::once(configuration).chain(examine(&config).await);
    for finding in found {
        failed += usize::from(finding.remedy.is_some());
        tell(&finding, output);
    }
    if !output.is_json() {
        let text =
            if failed == 0 { "nothing is amiss".to_owned() } else { format!("{} to mend", counted(failed, "thing")) };
        output.line(&text);
    }
    Ok(if failed == 0 { 0 } else { FAILED })
}

fn tell(finding: &Finding, output: Output) {
    let Finding { about, text, remedy } = finding;
    if output.is_json() {
        return output.json(&json!({"check": about, "ok": remedy.is_none(), "text": text, "remedy": remedy}));
    }
    match remedy {
        None => output.line(&format!("ok   {about}: {text}")),
        Some(remedy) => output.line(&format!("BAD  {about}: {text}\n     remedy: {remedy}")),
    }
}

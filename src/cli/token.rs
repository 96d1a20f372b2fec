//! `tidegate token create|list|revoke`: through the API, or straight in the database for the first one.

use super::args::{TokenCommand, TokenPlace};
use super::rollout::client;
use super::{Ended, Failure, Output};
use crate::api::client::{Client, segment};
use crate::api::wire::{NewToken, TokenBody, TokenEntry, TokenList};
use crate::app::{open_shared_tokens, open_tokens};
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::base::token::{TokenId, TokenRecord, problem_with_name};
use crate::clock::{Clock, SystemClock, new_token};
use crate::config::{DATABASE_VARIABLE, Environment, user};
use crate::ports::Tokens;
use std::path::Path;
use std::sync::Arc;

/// Where tokens are kept.
enum Place {
    Api(Client),
    Database(Arc<dyn Tokens>),
}

pub(super) async fn run(command: TokenCommand, output: Output, environment: &dyn Environment) -> Ended {
    // In the database nobody is asked who they are: it is the login, as for everything on this machine.
    let by = format!("{} (os_user)", user(environment));
    match command {
        TokenCommand::Create { role, name, place } => {
            if let Some(problem) = problem_with_name(&name) {
                return Err(Failure::new(problem).usage());
            }
            let place = open(&place, environment).await?;
            create(&place, TokenBody { name, role }, &by, output).await
        }
        TokenCommand::List(place) => list(&open(&place, environment).await?, output).await,
        TokenCommand::Revoke { id, place } => revoke(&open(&place, environment).await?, id, &by, output).await,
    }
}

async fn open(place: &TokenPlace, environment: &dyn Environment) -> Result<Place, Failure> {
    if place.database {
        let url = environment.get(DATABASE_VARIABLE).filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| Failure::new(format!("{DATABASE_VARIABLE} is not set")).usage())?;
        let tokens = open_shared_tokens(&Redacted::new(url)).await;
        return tokens.map(Place::Database).map_err(|error| Failure::new(error.to_string()));
    }
    match &place.data_dir {
        Some(data_dir) => in_directory(data_dir).await.map(Place::Database),
        None => Ok(Place::Api(client(&place.server, environment)?)),
    }
}

async fn in_directory(data_dir: &Path) -> Result<Arc<dyn Tokens>, Failure> {
    let hint =
        "--data-dir names the directory of `database.data_dir`; its daemon must be of this release, or not running";
    open_tokens(data_dir).await.map_err(|error| Failure::new(error.to_string()).hint(hint))
}

fn failed(fault: &Fault) -> Failure {
    Failure::new(fault.to_string())
}

async fn create(place: &Place, body: TokenBody, by: &str, output: Output) -> Ended {
    let new = match place {
        Place::Api(client) => client.post("/v1/tokens", &body).await?,
        Place::Database(tokens) => {
            let (token, created_at) = (new_token(), SystemClock.now());
            let TokenBody { name, role } = body;
            let id = token.id().clone();
            let record = TokenRecord { id, name, role, created_at, created_by: by.to_owned(), revoked: None };
            tokens.create(&record, &token.hash()).await.map_err(|error| Failure::new(error.to_string()))?;
            NewToken { token: token.reveal().clone(), entry: TokenEntry::from(&record) }
        }
    };
    if output.is_json() {
        output.json(&new);
        return Ok(0);
    }
    output.line(&new.token);
    let TokenEntry { id, name, role, .. } = new.entry;
    output.remark(&format!(
        "token {id} of `{name}` ({role}); it is shown this once. Clients take it from TIDEGATE_TOKEN"
    ));
    Ok(0)
}

async fn list(place: &Place, output: Output) -> Ended {
    let list = match place {
        Place::Api(client) => client.get("/v1/tokens").await?,
        Place::Database(tokens) => {
            let records = tokens.list().await.map_err(|fault| failed(&fault))?;
            TokenList { tokens: records.iter().map(TokenEntry::from).collect() }
        }
    };
    if output.is_json() {
        output.json(&list);
        return Ok(0);
    }
    let width = list.tokens.iter().map(|token| token.name.len()).max().unwrap_or(0).max(4);
    if list.tokens.is_empty() {
        output.remark("no tokens yet; `tidegate token create` makes one");
    } else {
        output.line(&format!("{:<12}  {:<width$}  {:<8}  {:<24}  {:<24}  BY", "ID", "NAME", "ROLE", "MADE", "REVOKED"));
    }
    for TokenEntry { id, name, role, created_at, created_by, revoked_at, .. } in &list.tokens {
        let (role, revoked) = (role.name(), revoked_at.as_deref().unwrap_or("-"));
        output.line(&format!("{:<12}  {name:<width$}  {role:<8}  {created_at:<24}  {revoked:<24}  {created_by}", id.0));
    }
    Ok(0)
}

async fn revoke(place: &Place, id: String, by: &str, output: Output) -> Ended {
    let entry: TokenEntry = match place {
        Place::Api(client) => client.delete(&format!("/v1/tokens/{}", segment(&id))).await?,
        Place::Database(tokens) => {
            let id = TokenId(id);
            let revoked = tokens.revoke(&id, SystemClock.now(), by).await.map_err(|fault| failed(&fault))?;
            let missing = || Failure::new(format!("there is no token `{id}`")).hint("`tidegate token list` shows them");
            TokenEntry::from(&revoked.ok_or_else(missing)?)
        }
    };
    if output.is_json() {
        output.json(&entry);
        return Ok(0);
    }
    let at = entry.revoked_at.as_deref().unwrap_or("now");
    output.line(&format!("token {} of `{}` was revoked at {at}", entry.id, entry.name));
    if let Place::Database(_) = place {
        output.remark("a daemon that is running lets it in for 10 s more at most, while its database answers");
    }
    Ok(0)
}

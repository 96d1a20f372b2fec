//! Tokens of the API, once for both databases.
//!
//! Each write is one statement by itself on one of the readers' connections, and not under the driver's lease: a command
//! beside a daemon writes them too, and a daemon that stands by.

use super::database::Database;
use super::dialect::{Columns, Dialect, Value};
use super::read::ask;
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::base::token::{TokenHash, TokenId, TokenRecord};
use crate::ports::{TOKENS_MAX, TokenError, Tokens};
use async_trait::async_trait;

const FIND: &str = "SELECT id, name, role, created_at_ms, created_by, revoked_at_ms, revoked_by FROM tokens \
                    WHERE hash = $1";
const ONE: &str = "SELECT id, name, role, created_at_ms, created_by, revoked_at_ms, revoked_by FROM tokens \
                   WHERE id = $1";
/// Those that are not revoked have the rank 0.
const LIST: &str = "SELECT id, name, role, created_at_ms, created_by, revoked_at_ms, revoked_by FROM tokens \
                    ORDER BY CASE WHEN revoked_at_ms IS NULL THEN 0 ELSE 1 END, created_at_ms DESC, id LIMIT $1";
/// Writes nothing where there are too many. Two that come at once may both be the last one: the bound is for accidents.
const CREATE: &str = "INSERT INTO tokens (id, hash, name, role, created_at_ms, created_by) \
                      SELECT $1, $2, $3, $4, $5, $6 \
                      WHERE (SELECT count(*) FROM tokens WHERE revoked_at_ms IS NULL) < $7";
const REVOKE: &str = "UPDATE tokens SET revoked_at_ms = $2, revoked_by = $3 WHERE id = $1 AND revoked_at_ms IS NULL";

fn record<D: Dialect>(row: &impl Columns) -> Result<TokenRecord, Fault> {
    let text = |name| row.text(name).map_err(D::fault);
    let id = text("id")?;
    let role = text("role")?.parse().map_err(|problem| {
        let message = format!("token {id} has a role that this release does not know: {problem}");
        Fault::permanent(D::SOURCE, message)
    })?;
    let revoked_at = row.maybe("revoked_at_ms").map_err(D::fault)?;
    let revoked_by = text("revoked_by")?;
    Ok(TokenRecord {
        id: TokenId(id),
        name: text("name")?,
        role,
        created_at: Timestamp(row.whole("created_at_ms").map_err(D::fault)?),
        created_by: text("created_by")?,
        revoked: revoked_at.map(|at| (Timestamp(at), revoked_by)),
    })
}

#[async_trait]
impl<D: Dialect> Tokens for Database<D> {
    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault> {
        let rows = ask(&self.readers, FIND, &[Value::Text(hash.as_hex())]).await?;
        rows.first().map(record::<D>).transpose()
    }

    async fn create(&self, new: &TokenRecord, hash: &TokenHash) -> Result<(), TokenError> {
        let values = [
            Value::Text(&new.id.0),
            Value::Text(hash.as_hex()),
            Value::Text(&new.name),
            Value::Text(new.role.name()),
            Value::Whole(new.created_at.0),
            Value::Text(&new.created_by),
            Value::Whole(i64::try_from(TOKENS_MAX).unwrap_or(i64::MAX)),
        ];
        match self.change(CREATE, &values).await? {
            0 => Err(TokenError::Full),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<TokenRecord>, Fault> {
        let most = i64::try_from(2 * TOKENS_MAX).unwrap_or(i64::MAX);
        ask(&self.readers, LIST, &[Value::Whole(most)]).await?.iter().map(record::<D>).collect()
    }

    async fn revoke(&self, id: &TokenId, at: Timestamp, by: &str) -> Result<Option<TokenRecord>, Fault> {
        self.change(REVOKE, &[Value::Text(&id.0), Value::Whole(at.0), Value::Text(by)]).await?;
        ask(&self.readers, ONE, &[Value::Text(&id.0)]).await?.first().map(record::<D>).transpose()
    }
}

//! Freezes, once for both databases. They are not deleted: those that were lifted are the record of who did what.

use super::database::Database;
use super::dialect::{Columns, Dialect, Value};
use super::read::ask;
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::ports::{Freeze, Freezes};
use crate::rollout::event::Actor;
use async_trait::async_trait;

/// Everything is the empty name, which no policy has, and comes first.
const IN_FORCE: &str = "SELECT policy, reason, by_name, by_via, at_ms FROM freezes WHERE lifted_at_ms IS NULL \
                        ORDER BY policy";
/// One that is in force for the same policy stays, by the table's index.
const FREEZE: &str = "INSERT INTO freezes (policy, reason, by_name, by_via, at_ms) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT DO NOTHING";
const LIFT: &str = "UPDATE freezes SET lifted_at_ms = $2, lifted_by = $3 \
                    WHERE policy = $1 AND lifted_at_ms IS NULL AND at_ms = $4";

fn freeze(row: &impl Columns) -> Result<Freeze, sqlx::Error> {
    let policy = row.text("policy")?;
    Ok(Freeze {
        policy: (!policy.is_empty()).then_some(policy),
        reason: row.text("reason")?,
        by: Actor { name: row.text("by_name")?, via: row.text("by_via")? },
        at: Timestamp(row.whole("at_ms")?),
    })
}

#[async_trait]
impl<D: Dialect> Freezes for Database<D> {
    async fn in_force(&self) -> Result<Vec<Freeze>, Fault> {
        let rows = ask(&self.readers, IN_FORCE, &[]).await?;
        rows.iter().map(|row| freeze(row).map_err(D::fault)).collect()
    }

    async fn freeze(&self, freeze: &Freeze) -> Result<bool, Fault> {
        let values = [
            Value::Text(freeze.policy.as_deref().unwrap_or_default()),
            Value::Text(&freeze.reason),
            Value::Text(&freeze.by.name),
            Value::Text(&freeze.by.via),
            Value::Whole(freeze.at.0),
        ];
        Ok(self.change(FREEZE, &values).await? == 1)
    }

    async fn lift(&self, policy: Option<&str>, at: Timestamp, by: &Actor) -> Result<Option<Freeze>, Fault> {
        let present = self.in_force().await?.into_iter().find(|freeze| freeze.policy.as_deref() == policy);
        let Some(freeze) = present else { return Ok(None) };
        let (by, name) = (by.to_string(), policy.unwrap_or_default());
        // Of two that lift it at once, one does; and none lifts another one that was made meanwhile.
        let values = [Value::Text(name), Value::Whole(at.0), Value::Text(&by), Value::Whole(freeze.at.0)];
        let lifted = self.change(LIFT, &values).await?;
        Ok((lifted > 0).then_some(freeze))
    }
}

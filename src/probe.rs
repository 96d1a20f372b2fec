//! Questions after an endpoint's health that need more than a request and a status, asked over a connection that is open.
//! Who asks decides when, how long it may take, and what the answer means.

pub mod grpc;

use http::Response;

use super::answer::AnswerBody;
use super::http::Arrived;

pub fn list(_: &Arrived) -> Response<AnswerBody> {
    Response::new(AnswerBody::text(""))
}
pub fn one(_: &Arrived, _: &str) -> Response<AnswerBody> {
    Response::new(AnswerBody::text(""))
}

use http::Response;

use super::answer::AnswerBody;
use super::http::Arrived;

pub async fn serve(_: Arrived) -> Response<AnswerBody> {
    Response::new(AnswerBody::text(""))
}

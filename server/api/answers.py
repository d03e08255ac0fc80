"""A photo, looked at as thoroughly as was asked: for either protocol."""

from dataclasses import replace

from server.api.messages import Fields, classification, explanation, ranking
from server.api.options import Asked
from server.scheduler.job import Answer, Request
from server.service import Service
from server.thorough import CAM, Explanation, classify_ten_views, explain


async def look(
    service: Service, request: Request, photo: bytes, asked: Asked, shown: bool = False
) -> tuple[Answer, Explanation | None]:
    """What is explained is the most probable class of those that were asked for. `shown`: the crop
    is, too. Raises a ServeError."""
    if asked.views > 1:
        answer = await classify_ten_views(service, request, photo)
    else:
        fresh = shown or bool(asked.explain)
        answer = await service.classify(
            request, photo, fresh=fresh, look_inside=asked.explain == CAM
        )
    if not asked.explain:
        return answer, None
    index = ranking(answer, asked)[0].index
    explained = await explain(service, request, answer, asked.explain, index)
    return replace(answer, timing=explained.timing), explained


def fields_of(
    answer: Answer, explained: Explanation | None, asked: Asked, request_id: str
) -> Fields:
    """Those of `alexnet.v1.ClassifyResponse`."""
    fields = classification(answer, asked, request_id)
    if explained:
        fields["explanation"] = explanation(answer, explained)
    return fields

import torch

from unclouded.models.scales import halved, joined, pyramid


def test_each_scale_is_the_mean_of_the_blocks_of_the_one_before() -> None:
    x = torch.rand(1, 2, 5, 7)
    first, second, third = pyramid(x, 3)
    assert first is x
    assert [tuple(image.shape[-2:]) for image in (second, third)] == [(3, 4), (2, 2)]
    torch.testing.assert_close(second[..., 0, 0], x[..., :2, :2].mean((-2, -1)))
    torch.testing.assert_close(second[..., 2, 3], x[..., 4, 6])  # a corner by itself


def test_equal_answers_stay_what_they_are() -> None:
    x = torch.rand(1, 3, 9, 6)
    torch.testing.assert_close(joined(list(pyramid(x, 3)), 0.4), x)


def test_a_coarser_answer_shifts_tones_by_its_share_and_keeps_detail() -> None:
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(joined([x, halved(x) + 0.5], 0.4), x + 0.2)
    assert torch.equal(joined([x, torch.rand(1, 3, 4, 4)], 0.0), x)

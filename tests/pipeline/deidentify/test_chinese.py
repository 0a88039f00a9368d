"""Chinese: what shapes, titles and labels give away, and what stands for it."""

import re

import pytest

from pipeline.deidentify import chinese
from pipeline.deidentify.chinese_surrogates import is_chinese, stand_in
from pipeline.deidentify.drawing import Draw

DRAW = Draw(bytes(range(32)), "group")


def found(text: str) -> set[tuple[str, str]]:
    return {(span.kind, text[span.start : span.end]) for span in chinese.detect(text)}


@pytest.mark.parametrize(
    ("text", "phi"),
    [
        ("患者姓名：李小明，男，45岁。", {("NAME", "李小明")}),
        ("我叫欧阳慧，今年30岁。", {("NAME", "欧阳慧")}),
        ("张医生说要手术，谢谢王大夫！", {("NAME", "张"), ("NAME", "王")}),
        ("主治医师：周国强", {("NAME", "周国强")}),
        ("患者张三丰，男，92岁，因胸痛入院。", {("NAME", "张三丰"), ("AGE", "92")}),
        ("老人九十五岁", {("AGE", "九十五")}),
        ("身份证号11010519491231002X", {("ID", "11010519491231002X")}),
        ("住院号：Z2023001", {("ID", "Z2023001")}),
        ("病历号 A-20331", {("ID", "A-20331")}),
        ("护照号E12345678", {("ID", "E12345678")}),
        ("电话13812345678，或010-62345678", {("PHONE", "13812345678"), ("PHONE", "010-62345678")}),
        ("邮箱 li@163.com", {("EMAIL", "li@163.com")}),
        ("家住北京市朝阳区建国路88号3号楼502室", {("ADDRESS", "北京市朝阳区建国路88号3号楼502室")}),
        ("来自河南省驻马店市", {("LOCATION", "河南省驻马店市")}),
        ("在四川大学华西医院就诊", {("FACILITY", "四川大学华西医院")}),
        ("2023年5月6日入院，5月8日出院", {("DATE", "2023年5月6日"), ("DATE", "5月8日")}),
        ("二〇二三年三月五日", {("DATE", "二〇二三年三月五日")}),
    ],
)
def test_phi_is_found(text: str, phi: set[tuple[str, str]]) -> None:
    assert found(text) == phi


@pytest.mark.parametrize(
    "text",
    [
        "高血压患者应低盐饮食，谢谢医生。",
        "患者黄疸三天，白细胞升高，体温38.5度。",
        "帕金森病和霍奇金淋巴瘤的治疗，每日2次，每次10毫克。",
        "我爸爸今年65岁，去当地医院检查过。",
        "身份证号110105194912310021",
        "2010年开始头晕",
    ],
)
def test_medicine_is_left_alone(text: str) -> None:
    # The last digit of an id that is none does not fit; the label still makes it one.
    assert found(text) <= {("ID", "110105194912310021")}


def test_a_family_keeps_its_surname_and_lengths_stay() -> None:
    father, doctor = (stand_in("NAME", text, DRAW, 3) for text in ("李小明", "李"))
    assert len(father) == 3
    assert father[0] == doctor != "李"
    assert father[1:] != "小明"
    compound = stand_in("NAME", "欧阳慧", DRAW, 3)
    assert compound[:2] in chinese.COMPOUND_SURNAMES
    assert compound[:2] != "欧阳"


def test_dates_move_by_whole_weeks_in_their_own_writing() -> None:
    assert stand_in("DATE", "2023年5月6日", DRAW, 3) == "2023年5月27日"
    assert stand_in("DATE", "23年12月28号", DRAW, 1) == "24年1月4号"
    assert stand_in("DATE", "5月8日", DRAW, 3) == "5月29日"
    assert stand_in("DATE", "2023年5月", DRAW, 52) == "2024年5月"
    assert stand_in("DATE", "二〇二三年三月五日", DRAW, 3) == "2023年3月26日"
    assert stand_in("DATE", "2023年5月6日", DRAW, None) == "2023年"
    assert stand_in("DATE", "5月8日", DRAW, None) == "某日"


def test_a_resident_id_stands_for_one() -> None:
    made = stand_in("ID", "11010519491231002X", DRAW, 3)
    assert found(f"身份证号{made}") == {("ID", made)}
    assert made != "11010519491231002X"
    assert is_chinese("ID", made)


def test_places_and_hospitals_become_others_of_their_kind() -> None:
    place = stand_in("ADDRESS", "浙江省杭州市西湖区文三路100号", DRAW, 3)
    assert re.fullmatch(r".{2,4}省.{2,5}市.{2}区.{2}路[1-9]\d{2}号", place)
    for part in ("浙江", "杭州", "西湖", "文三", "100"):
        assert part not in place
    assert re.fullmatch("..+市第.人民医院", stand_in("FACILITY", "四川大学华西医院", DRAW, 3))


def test_a_mobile_number_stays_one() -> None:
    made = stand_in("PHONE", "138-1234-5678", DRAW, 3)
    assert re.fullmatch(r"1[3-9]\d-\d{4}-\d{4}", made)
    assert made != "138-1234-5678"

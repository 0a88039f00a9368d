"""Finding PHI in Chinese text: no model, but surnames, labels, titles and shapes.

>>> [(TEXT[s.start:s.end], s.kind) for s in detect(TEXT := "患者姓名：李小明，电话13812345678。")]
[('李小明', 'NAME'), ('13812345678', 'PHONE')]

Chinese writes no spaces, so a word begins where a label, a title or a list says so. What no shape
and no such word gives away is not found: reports count these records beside the English ones.
"""

import re
from collections.abc import Iterator

import phonenumbers

from pipeline.deidentify import dates
from pipeline.deidentify.patterns import SHAPES as WESTERN
from pipeline.deidentify.shape import Shape
from pipeline.deidentify.spans import Span, resolve

HAN = "一-鿿"
SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖"
    "贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤常温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁"
    "岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙鲍华喻祁蒲房滕屈饶解"
    "牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池查麻苑迟邝"
)
"""The commonest of the People's Republic, by frequency."""
COMPOUND_SURNAMES = (
    "欧阳",
    "上官",
    "司马",
    "诸葛",
    "东方",
    "皇甫",
    "尉迟",
    "公孙",
    "慕容",
    "司徒",
    "令狐",
    "宇文",
    "长孙",
    "夏侯",
    "端木",
)
GIVEN = (
    "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂华建国文辉玲红梅鹏飞波斌宇浩凯健俊帆雪荣琳晨婷慧莹欣怡佳嘉思雨梓涵子轩一诺"
    "浩然博文志强海燕丹萍春生林玉珍凤琴云莲真环荣爱妹香月莺媛瑞凡佩霄璐瑶瑾颖露璇倩妍茜秋珊莎锦黛青婕馨瑗琰韵融园艺咏卿聪澜纯毓悦昭"
    "冰爽琬茗羽希宁岚苑菊勤贞莉兰克伦翔旭义兴良海仁贵福龙元全胜学祥才发武新利清富顺信子杰楠榕风航弘江山松柏树柱康安泰盛雄琛钧冠策腾"
)
PROVINCES = (
    "北京", "天津", "上海", "重庆", "河北", "山西", "辽宁", "吉林", "黑龙江", "江苏", "浙江", "安徽", "福建", "江西", "山东", "河南",
    "湖北", "湖南", "广东", "海南", "四川", "贵州", "云南", "陕西", "甘肃", "青海", "台湾", "内蒙古", "广西", "西藏", "宁夏", "新疆",
    "香港", "澳门",
)  # fmt: skip
CITIES = (
    "石家庄", "唐山", "保定", "太原", "大同", "沈阳", "大连", "鞍山", "长春", "哈尔滨", "齐齐哈尔", "南京", "苏州", "无锡", "常州", "徐州",
    "南通", "扬州", "杭州", "宁波", "温州", "嘉兴", "绍兴", "金华", "台州", "合肥", "芜湖", "蚌埠", "福州", "厦门", "泉州", "南昌", "九江",
    "赣州", "济南", "青岛", "烟台", "潍坊", "临沂", "淄博", "郑州", "洛阳", "开封", "南阳", "武汉", "宜昌", "襄阳", "荆州", "长沙", "株洲",
    "湘潭", "衡阳", "岳阳", "常德", "广州", "深圳", "珠海", "佛山", "东莞", "中山", "惠州", "汕头", "湛江", "海口", "三亚", "成都", "绵阳",
    "德阳", "宜宾", "贵阳", "遵义", "昆明", "大理", "西安", "咸阳", "宝鸡", "兰州", "西宁", "呼和浩特", "包头", "南宁", "桂林", "柳州",
    "拉萨", "银川", "乌鲁木齐", "邯郸", "沧州", "廊坊", "秦皇岛", "泰安", "济宁", "菏泽", "聊城", "德州", "商丘", "信阳", "驻马店", "周口",
    "阜阳", "安庆", "六安", "黄冈", "孝感", "十堰", "邵阳", "永州", "郴州", "怀化", "梅州", "揭阳", "茂名", "肇庆", "江门", "清远", "南充",
    "达州", "泸州", "乐山", "毕节", "曲靖", "渭南", "天水", "台北", "高雄",
)  # fmt: skip

_NOT_GIVEN = "的了是我你他她它们这那在有不和就都而及与着或被把让给对从到说问答请看吃喝用发现需能会可要想去来做过没很太更最血压糖脂热烧痛疼病症"
_STARTS = "谢谢|麻烦|任何|何时|何况|高血|高烧|黄体|黄疸|白血|白癜|白带|白细|水肿|石膏|牛奶|金黄|安全|成人|时间|车祸|方便|方法|平时|平常|温度|常见|常规|全部|连续|包括|解决|应该|于是|和|从|易|明|文|向|康复|方案|路过|项目|支原|乐观|房颤|屈光|简单"
"""Words that begin like a surname and are none."""
_CHARACTER = f"(?:(?![{_NOT_GIVEN}])[{HAN}])"
_SURNAME = f"(?:(?!{_STARTS})(?:{'|'.join(COMPOUND_SURNAMES)}|[{SURNAMES}]))"
_NAME = rf"{_SURNAME}{_CHARACTER}{{1,2}}"
_TITLE = "(?:先生|女士|小姐|太太|医生|医师|大夫|主任|教授|护士长?|院长|博士|老师|同志|阿姨|叔叔|爷爷|奶奶|大爷|大妈|师傅|同学|老人家|药师|专家)"
_AFTER_NAME = rf"(?=$|[^{HAN}]|男|女|性|因|于|本人|就诊|入院|出院|住院|的|是|说|在|和|与|及|已|也|今年|现年)"
_PLACE = "|".join((*PROVINCES, *CITIES))
_PART = rf"(?![家住在地址现的是])[{HAN}]{{1,8}}?(?:省|自治区|市|自治州|区|县|旗|镇|乡|街道|村|庄)"
_STREET = rf"[{HAN}\d]{{1,12}}?(?:路|大街|街|大道|道|巷|弄|胡同|里|小区|花园|公寓|大厦|新村|家园)"
_NUMBER = (
    r"(?:[ ]?[\d一二三四五六七八九十甲乙丙A-Za-z-]{1,6}(?:号楼|号|栋|幢|座|单元|层|楼|室|弄|组|队)[ ]?){1,5}"
)
_NUMERAL = "[〇零一二三四五六七八九十]"
_VALUE = r"[为是]?[ ]?[:：#]?[ ]?"
_ID_LABEL = (
    "(?:(?:住院|门诊|病历|病案|就诊|登记|检查|标本|影像|床位?|档案|医保卡?|社保卡?|就诊卡|身份证|军官证|驾驶证|护照|银行卡?|保单|订单|工|学|会员|"
    "患者|病人|账户?|卡|条码|流水|申请单|报告|样本)(?:号码?|编号|ID|id)|(?:身份证|护照|编号|卡号|证件号|学号|工号|医保卡|社保卡|就诊卡))"
)


def _is_resident(match: re.Match[str]) -> bool:
    """The check character of GB 11643: ISO 7064, MOD 11-2."""
    digits = re.sub(r"\s", "", match["phi"]).upper()
    weighted = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(digits[:17]))
    return "10X98765432"[weighted % 11] == digits[17]


SHAPES = [
    *(shape for shape in WESTERN if shape.kind in ("EMAIL", "URL", "IP")),
    Shape(
        "0",
        "ID",
        re.compile(
            r"(?<!\d)(?P<phi>[1-9]\d{5}[ ]?(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])[ ]?\d{3}[\dXx])(?!\d)"
        ),
        _is_resident,
    ),
    Shape("0", "ID", re.compile(r"(?<![A-Za-z0-9])(?P<phi>[EGDSPH][A-HJ-NP-Z]?\d{7,8})(?![A-Za-z0-9])")),
    Shape(
        "0",
        "ID",
        re.compile(rf"{_ID_LABEL}{_VALUE}(?P<phi>[A-Za-z]{{0,4}}[-]?\d[\dA-Za-z-]{{2,24}})"),
    ),
    Shape(
        "0",
        "ID",
        re.compile(r"(?:微信|QQ|qq|VX|vx|微博)号?[是为]?[ ]?[:：]?[ ]?(?P<phi>[A-Za-z0-9_-]{5,20})"),
    ),
    Shape("0", "AGE", re.compile(r"(?<![\d.])(?P<phi>9\d|1[01]\d|12\d)(?=[ ]?(?:周?岁|高龄))")),
    Shape(
        "",
        "AGE",
        re.compile(
            r"(?P<phi>九十[一二三四五六七八九]?|一百(?:[零〇][一二三四五六七八九]|一十[一二三四五六七八九]?)?)(?=[多来几]?周?岁)"
        ),
    ),
    Shape(
        "",
        "ADDRESS",
        re.compile(
            rf"(?P<phi>(?:(?:{_PLACE})(?:省|市|自治区|回族自治区|壮族自治区|维吾尔自治区)?)(?:{_PART}){{0,5}}(?:{_STREET}){{1,3}}(?:{_NUMBER})?)"
        ),
    ),
    Shape(
        "",
        "ADDRESS",
        re.compile(
            rf"(?:地址|住址|家住|住在|现住|居住地?|户籍|户口|籍贯|邮寄到|寄到|送到){_VALUE}在?(?P<phi>(?:{_PART}){{0,5}}(?:{_STREET}){{0,3}}(?:{_NUMBER})?)"
        ),
        lambda match: len(match["phi"]) > 2,
    ),
    Shape(
        "0",
        "ADDRESS",
        re.compile(rf"(?P<phi>(?:{_PART}){{1,4}}(?:{_STREET})\d{{1,5}}(?:号楼|号|弄|栋)(?:{_NUMBER})?)"),
    ),
    Shape("", "ZIP", re.compile(rf"邮(?:政编码|编){_VALUE}(?P<phi>\d{{6}})(?!\d)")),
    Shape(
        "",
        "LOCATION",
        re.compile(rf"(?P<phi>(?:{_PLACE})(?:省|市|自治区)?(?:[{HAN}]{{1,4}}(?:市|县|区|镇|乡|村))*)"),
    ),
    Shape(
        "",
        "LOCATION",
        re.compile(
            rf"(?:来自|在|住|从|到|回|老家是?)(?P<phi>(?![这那哪本当])[{HAN}]{{2,4}}(?:市|县|镇|乡|村))(?![{HAN}]*(?:医院|里))"
        ),
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            rf"(?P<phi>(?P<place>(?:{_PLACE})(?:省|市)?(?:[{HAN}]{{1,3}}[区县])?)[{HAN}]{{0,12}}?(?:医院|卫生院|卫生所|诊所|医学院|疗养院|体检中心|疾控中心))"
        ),
    ),
    Shape(
        "",
        "FACILITY",
        re.compile(
            r"(?P<phi>(?:协和|华西|同济|湘雅|瑞金|华山|中山|友谊|天坛|安贞|积水潭|宣武|朝阳|阜外|同仁|齐鲁|西京|仁济|长海|301|解放军第?[一二三四五六七八九十〇零\d]+)"
            rf"(?:大学)?(?:附属)?(?:第[一二三四五])?[{HAN}]{{0,4}}?医院)"
        ),
    ),
    Shape(
        "",
        "NAME",
        re.compile(
            rf"(?:姓名|我叫|名叫|名字是|名字叫|他叫|她叫|叫做|联系人|家属|监护人|签名|签字|主治医[师生]|经治医[师生]|责任护士|主管医[师生]|主刀|记录者?|报告医[师生]|审核者?|申请医[师生]|收件人|户主){_VALUE}"
            rf"(?P<phi>{_NAME}){_AFTER_NAME}"
        ),
    ),
    Shape(
        "",
        "NAME",
        re.compile(
            rf"(?:患者|病人|患儿|产妇|死者|伤者)[:： ]?(?P<phi>{_NAME})(?=[，,、 ]?(?:男|女|性别|\d+[ ]?岁|（|\())"
        ),
    ),
    Shape(
        "",
        "NAME",
        re.compile(rf"(?<![{HAN}])(?P<phi>{_SURNAME}{_CHARACTER}{{0,2}})(?={_TITLE})"),
    ),
    Shape(
        "",
        "NAME",
        re.compile(rf"(?<=[找请问谢见让是和给叫])(?!谢)(?P<phi>{_SURNAME}{_CHARACTER}{{0,2}})(?={_TITLE})"),
    ),
    Shape("", "NAME", re.compile(rf"(?<![{HAN}])(?P<phi>{_NAME})(?=[，,][男女][，,。 ])")),
]
_DATES = (
    re.compile(r"(?P<phi>(?:(?:18|19|20)\d{2}|\d{2})[ ]?年[ ]?\d{1,2}[ ]?月(?:[ ]?\d{1,2}[ ]?[日号])?)"),
    re.compile(r"(?<!\d)(?P<phi>\d{1,2}[ ]?月[ ]?\d{1,2}[ ]?[日号])"),
    re.compile(rf"(?P<phi>[二一][〇零九]{_NUMERAL}{{2}}年{_NUMERAL}{{1,2}}月(?:{_NUMERAL}{{1,3}}[日号])?)"),
)


def detect(text: str) -> list[Span]:
    """Findings in a Chinese text, in order, not overlapping."""
    return resolve(_find(text), text)


def _find(text: str) -> Iterator[Span]:
    has_digit = any(character.isdigit() for character in text)
    for shape in SHAPES:
        yield from shape.find(text, has_digit)
    for form in _DATES:
        for match in form.finditer(text):
            yield Span(*match.span("phi"), "DATE")
    for start, end in dates.find(text):
        yield Span(start, end, "DATE")
    if has_digit:
        for number in phonenumbers.PhoneNumberMatcher(text, "CN"):
            yield Span(number.start, number.end, "PHONE")

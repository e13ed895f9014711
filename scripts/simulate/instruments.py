"""Describe what each kind of instrument writes: names, numbers and sizes of files, texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class FileKind(NamedTuple):
    """Files that differ in the {lane}, {cycle} and so on of their path, and their bytes at scale 1."""

    path: str
    size: int
    each: str = ""  # the axes of the run that are together in one file: the size is for one value of each


NUMBER_4, NUMBER = "_{instrument_id}_{number:04}_{side}{flowcell}", "_{instrument_id}_{number}_{flowcell}"
ISO_TIME, US_TIME = "%Y-%m-%dT%H:%M:%SZ", "%m/%d/%Y %I:%M:%S %p"
BASIC_METRICS = "CorrectedInt Error Extraction Image Q "
RTA3_METRICS = BASIC_METRICS + "Alignment Basecalling EmpiricalPhasing Event OpticalModel Registration"
RTA4_METRICS = BASIC_METRICS + "Basecalling ClusterStats Diversity EmpiricalPhasing ImageQuality"
CYCLE_LOG = "Logs/{run_id}_Cycle{logged}_Log.00.log "
ANALYTICS_LOG = "InstrumentAnalyticsLogs/running__{instrument_id}__{number:04}__Run.imf1"
INTENSITIES, BASECALLS = "Data/Intensities/", "Data/Intensities/BaseCalls/L{lane:03}/"
CBCL, FILTER = BASECALLS + "C{cycle}.1/L{lane:03}_{surface}.cbcl", BASECALLS + "s_{lane}_{tile}.filter"
RUN_INTEROP = (
    FileKind("InterOp/{cycle_metric}MetricsOut.bin", 25, "lane tile cycle"),
    FileKind("InterOp/{run_metric}MetricsOut.bin", 45, "lane tile"),
)
INTEROP = (FileKind("InterOp/C{cycle}.1/{cycle_metric}MetricsOut.bin", 25, "lane tile"), *RUN_INTEROP)
RTA_COMPLETE = "completed on {ended:" + US_TIME + "}\r\n"
SHEET_V1 = """\
[Header],,,,
IEMFileVersion,4,,,
Experiment Name,{experiment},,,
Date,{started:%m/%d/%Y},,,
,,,,
[Reads],,,,
{reads}
,,,,
[Data],,,,
Sample_ID,Sample_Name,Sample_Project,index,index2
{samples}
"""
SHEET_V2 = """\
[Header]
FileFormatVersion,2
RunName,{experiment}

[Reads]
{reads}

[BCLConvert_Settings]
SoftwareVersion,4.1.23

[BCLConvert_Data]
Sample_ID,Index,Index2
{samples}
"""


@dataclass(frozen=True)
class Instrument:
    """What one kind of instrument writes. In shapes, # is a digit and ? a digit or capital letter."""

    id_shape: str
    flowcell_shape: str
    run_id_shape: str
    lanes: int
    surfaces: int
    swaths: int
    tiles: int  # a swath
    samples: int
    run_hours: int
    cycle_minutes: float
    copy_minutes: int  # from the end of the last cycle, until all is copied
    run_info_version: int
    data: tuple[FileKind, ...]
    texts: str  # there from the start of the run
    parameters: str  # inside of RunParameters.xml
    rta_complete: str
    completion: str = ""  # inside of RunCompletionStatus.xml
    sides: str = ""  # "AB" where two flow cells run side by side and the run id says which
    date: str = ISO_TIME  # in RunInfo.xml
    cycle_metrics: str = RTA4_METRICS  # InterOp with a record a tile and cycle
    run_metrics: str = "ExtendedTile SummaryRun Tile"  # InterOp with a record a tile
    logs: str = CYCLE_LOG + ANALYTICS_LOG
    markers: str = "RTAComplete.txt RunCompletionStatus.xml CopyComplete.txt"  # in the order of writing
    sheet: str = SHEET_V2
    cycles: tuple[int, ...] = (151, 8, 8, 151)
    analysis: bool = False  # it analyses the run after copying it


INSTRUMENTS = {
    "miseq": Instrument(  # control software before 4.0: RTAComplete.txt alone says that the run is over
        id_shape="M0####", flowcell_shape="000000000-K????", run_id_shape="{started:%y%m%d}" + NUMBER_4,
        run_info_version=2, date="%y%m%d", lanes=1, surfaces=2, swaths=1, tiles=14, samples=12, run_hours=24,
        cycle_minutes=4.4, copy_minutes=5,
        cycle_metrics=BASIC_METRICS, run_metrics="Control Index Tile",
        data=(
            *RUN_INTEROP,
            FileKind(INTENSITIES + "L{lane:03}/s_{lane}_{tile}.locs", 4_800_000),
            FileKind(BASECALLS + "C{cycle}.1/s_{lane}_{tile}.bcl", 600_000),
            FileKind(FILTER, 600_000), FileKind(BASECALLS + "s_{lane}_{tile}.control", 1_200_000),
            FileKind("Thumbnail_Images/L{lane:03}/C{first_cycle}.1/s_{lane}_{tile}_{base}.jpg", 60_000),
        ),
        texts="RunInfo.xml runParameters.xml SampleSheet.csv Config/Effective.cfg Config/MiSeqOverride.cfg "
        "Config/RTAStart.bat Recipe/{flowcell}.xml Data/Intensities/RTAConfiguration.xml "
        "Data/Intensities/config.xml Data/Intensities/BaseCalls/config.xml",
        logs="Logs/{flowcell}_Cycle{logged}_Log.00.log RTALogs/{instrument_id}_GlobalLog_00.tsv "
        "RTARead{read}Complete.txt", markers="RTAComplete.txt", sheet=SHEET_V1,
        parameters="<Setup><ApplicationName>MiSeq Control Software</ApplicationName></Setup><RunID>{run_id}</RunID>"
        "<ScannerID>{instrument_id}</ScannerID><RunNumber>{number}</RunNumber><MCSVersion>3.1.0.13</MCSVersion>"
        "<RTAVersion>1.18.54</RTAVersion><Barcode>{flowcell}</Barcode><Reads>{reads}</Reads>"
        "<ReagentKitVersion>Version2</ReagentKitVersion><ExperimentName>{experiment}</ExperimentName>",
        rta_complete="{ended:%m/%d/%Y,%H:%M:%S.000},Illumina RTA 1.18.54\r\n",
    ),
    "nextseq2000": Instrument(  # P2 flow cell
        id_shape="VH0####", flowcell_shape="AA?????M5", run_id_shape="{started:%y%m%d}" + NUMBER,
        run_info_version=6, analysis=True, lanes=1, surfaces=2, swaths=6, tiles=11, samples=24, run_hours=29,
        cycle_minutes=5.2, copy_minutes=137,
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 38_400_000), FileKind(CBCL, 1_000_000, "surface_tile"),
              FileKind(FILTER, 4_800_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Config/Effective.cfg Config/NextSeqCalibration.cfg "
        "Recipe/EffectiveRecipe.xml RTA.cfg",
        parameters="<InstrumentType>NextSeq2000</InstrumentType><RunId>{run_id}</RunId><RunCounter>{number}"
        "</RunCounter><InstrumentSerialNumber>{instrument_id}</InstrumentSerialNumber>"
        "<ApplicationName>NextSeq 1000/2000 Control Software</ApplicationName><RtaVersion>3.10.30</RtaVersion>"
        "<FlowCellMode>NextSeq 1000/2000 P2 Flow Cell Cartridge</FlowCellMode><FlowCellSerialNumber>{flowcell}"
        "</FlowCellSerialNumber><ExperimentName>{experiment}</ExperimentName><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA 3.10.30 " + RTA_COMPLETE,
        completion="<Version>1</Version><CompletionStatus>CompletedAsPlanned</CompletionStatus><RunId>{run_id}"
        "</RunId><CompletedReads>{named_reads}</CompletedReads><ErrorDescription>None</ErrorDescription>",
    ),
    "novaseq6000": Instrument(  # S1 flow cell
        id_shape="A0####", flowcell_shape="H????DRX#", run_id_shape="{started:%y%m%d}" + NUMBER_4, sides="AB",
        run_info_version=5, date=US_TIME, lanes=2, surfaces=2, swaths=2, tiles=78, samples=24, run_hours=25,
        cycle_minutes=4.5, copy_minutes=93,
        cycle_metrics=RTA3_METRICS, run_metrics="ExtendedTile FWHMGrid PFGrid StaticRun SummaryRun Tile",
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 32_700_000), FileKind(CBCL, 500_000, "surface_tile"),
              FileKind(FILTER, 4_100_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Config/Effective.cfg Config/FirmwareVersions.txt "
        "Config/NovaSeqCalibration.cfg Config/NovaSeqOverride.cfg Recipe/{flowcell}.xml RTA3.cfg",
        logs=CYCLE_LOG + "Logs/info_00000.log Logs/warning_00000.log",
        markers="RTAComplete.txt SequenceComplete.txt CopyComplete.txt",
        parameters="<Application>NovaSeq Control Software</Application><ApplicationVersion>1.8.0"
        "</ApplicationVersion><InstrumentName>{instrument_id}</InstrumentName><Side>{side}</Side><RunId>{run_id}"
        "</RunId><RunNumber>{number}</RunNumber><RtaVersion>v3.4.4</RtaVersion><RfidsInfo><FlowCellSerialBarcode>"
        "{flowcell}</FlowCellSerialBarcode><FlowCellMode>S1</FlowCellMode></RfidsInfo><ExperimentName>{experiment}"
        "</ExperimentName><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA v3.4.4 " + RTA_COMPLETE,
    ),
    "novaseqx": Instrument(  # 25B flow cell
        id_shape="LH00###", flowcell_shape="2?????LT4", run_id_shape="{started:%Y%m%d}" + NUMBER_4, sides="AB",
        run_info_version=6, analysis=True, lanes=8, surfaces=2, swaths=4, tiles=98, samples=64, run_hours=42,
        cycle_minutes=7.5, copy_minutes=90,
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 41_600_000), FileKind(CBCL, 2_550_000, "surface_tile"),
              FileKind(FILTER, 5_200_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Config/RTA.cfg Recipe/EffectiveRecipe.xml RTA.cfg",
        parameters="<Side>{side}</Side><Application>NovaSeqXSeries Control Software</Application><InstrumentType>"
        "NovaSeqXPlus</InstrumentType><InstrumentSerialNumber>{instrument_id}</InstrumentSerialNumber><RunId>"
        "{run_id}</RunId><RunCounter>{number}</RunCounter><RecipeName>25B Sequencing</RecipeName><ExperimentName>"
        "{experiment}</ExperimentName><FlowCellName>NovaSeqXSeries B4</FlowCellName><FlowCellType>NovaSeqXSeriesB4"
        "</FlowCellType><ConsumableInfo><ConsumableInfo><SerialNumber>{flowcell}</SerialNumber><Type>FlowCell"
        "</Type><Name>25B</Name></ConsumableInfo></ConsumableInfo><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA 4.29.3 " + RTA_COMPLETE,
        completion="<RunStartTime>{started:" + ISO_TIME + "}</RunStartTime><RunEndTime>{ended:" + ISO_TIME + "}"
        "</RunEndTime><CompletedReads>{named_reads}</CompletedReads><RunStatus>RunCompleted</RunStatus>",
    ),
    "miseqi100": Instrument(
        id_shape="SH00###", flowcell_shape="ASC#######-SC3", run_id_shape="{started:%Y%m%d}" + NUMBER_4,
        run_info_version=6, analysis=True, lanes=1, surfaces=1, swaths=9, tiles=2, samples=12, run_hours=15,
        cycle_minutes=2.6, copy_minutes=30,
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 20_000_000), FileKind(CBCL, 700_000, "surface_tile"),
              FileKind(FILTER, 1_400_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Recipe/EffectiveRecipe.xml RTA.cfg",
        parameters="<InstrumentType>MiSeqi100Plus</InstrumentType><InstrumentSerialNumber>{instrument_id}"
        "</InstrumentSerialNumber><RunId>{run_id}</RunId><RunCounter>{number}</RunCounter><ExperimentName>{experiment}"
        "</ExperimentName><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA 4.31.0 " + RTA_COMPLETE,
        completion="<CompletedReads>{named_reads}</CompletedReads><RunStatus>RunCompleted</RunStatus>",
    ),
    "nextseq550": Instrument(  # control software before 4.0: RTAComplete.txt says that the run is over
        id_shape="NB55####", flowcell_shape="AH?????GX#", run_id_shape="{started:%y%m%d}" + NUMBER_4,
        run_info_version=4, date="%y%m%d", lanes=4, surfaces=2, swaths=3, tiles=36, samples=24, run_hours=28,
        cycle_minutes=5.2, copy_minutes=5,
        cycle_metrics=BASIC_METRICS, run_metrics="Control Index Tile",
        data=(*INTEROP, FileKind(INTENSITIES + "L{lane:03}/s_{lane}.locs", 4_800_000, "tile"),
              FileKind(BASECALLS + "{cycle:04}.bcl.bgzf", 200_000, "tile"),
              FileKind(BASECALLS + "{cycle:04}.bcl.bgzf.bci", 8, "tile"),
              FileKind(BASECALLS + "s_{lane}.bci", 8, "tile"),
              FileKind(BASECALLS + "s_{lane}.filter", 600_000, "tile")),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv RTAConfiguration.xml Config/Effective.cfg "
        "Config/NextSeqCalibration.cfg Config/NextSeqOverride.cfg Recipe/{flowcell}.xml",
        logs=CYCLE_LOG + "RTALogs/{instrument_id}_GlobalLog_00.tsv RTARead{read}Complete.txt",
        markers="RunCompletionStatus.xml RTAComplete.txt",
        parameters="<Setup><ApplicationName>NextSeq Control Software</ApplicationName><ApplicationVersion>2.2.0.4"
        "</ApplicationVersion></Setup><RunID>{run_id}</RunID><InstrumentID>{instrument_id}</InstrumentID>"
        "<RunNumber>{number}</RunNumber><FlowCellSerial>{flowcell}</FlowCellSerial><ExperimentName>{experiment}"
        "</ExperimentName><Reads>{reads}</Reads>",
        rta_complete="RTA 2.11.3 " + RTA_COMPLETE,
        completion="<Version>1</Version><CompletionStatus>CompletedAsPlanned</CompletionStatus><RunId>{run_id}</RunId>",
    ),
    "iseq100": Instrument(
        id_shape="FS1000####", flowcell_shape="BNT#####-####", run_id_shape="{started:%Y%m%d}" + NUMBER,
        run_info_version=6, lanes=1, surfaces=1, swaths=1, tiles=16, samples=12, run_hours=18,
        cycle_minutes=3.3, copy_minutes=20,
        cycle_metrics=BASIC_METRICS, run_metrics="Control Index Tile",
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 4_000_000),
              FileKind(BASECALLS + "{cycle:04}.bcl.bgzf", 80_000, "tile"),
              FileKind(BASECALLS + "{cycle:04}.bcl.bgzf.bci", 8, "tile"),
              FileKind(BASECALLS + "s_{lane}.bci", 8, "tile"),
              FileKind(BASECALLS + "s_{lane}.filter", 250_000, "tile")),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv RTAConfiguration.xml Config/Effective.cfg "
        "Recipe/{flowcell}.xml",
        parameters="<ApplicationName>iSeq Control Software</ApplicationName><RunId>{run_id}</RunId><InstrumentId>"
        "{instrument_id}</InstrumentId><RunNumber>{number}</RunNumber><FlowcellEEPROMTag>{flowcell}</FlowcellEEPROMTag>"
        "<ExperimentName>{experiment}</ExperimentName><Reads>{reads}</Reads>",
        rta_complete="RTA 2.11.3 " + RTA_COMPLETE,
        completion="<CompletedReads>{named_reads}</CompletedReads><RunStatus>RunCompleted</RunStatus>",
    ),
    "hiseq2500": Instrument(  # rapid run; RTAComplete.txt alone says that the run is over
        id_shape="D00###", flowcell_shape="AH????BCX#", run_id_shape="{started:%y%m%d}" + NUMBER_4,
        run_info_version=2, date="%y%m%d", lanes=2, surfaces=2, swaths=2, tiles=16, samples=24, run_hours=27,
        cycle_minutes=7.6, copy_minutes=5, cycles=(101, 7, 101),
        cycle_metrics=BASIC_METRICS, run_metrics="Control Index Tile",
        data=(*RUN_INTEROP, FileKind(INTENSITIES + "L{lane:03}/s_{lane}_{tile}.locs", 9_000_000),
              FileKind(BASECALLS + "C{cycle}.1/s_{lane}_{tile}.bcl.gz", 900_000),
              FileKind(FILTER, 1_300_000), FileKind(BASECALLS + "s_{lane}_{tile}.control", 2_600_000)),
        texts="RunInfo.xml runParameters.xml SampleSheet.csv Config/Effective.cfg Config/RTAStart.bat "
        "Recipe/{flowcell}.xml Data/Intensities/RTAConfiguration.xml",
        logs="Logs/{flowcell}_Cycle{logged}_Log.00.log RTALogs/{instrument_id}_GlobalLog_00.tsv",
        markers="RTAComplete.txt", sheet=SHEET_V1,
        parameters="<Setup><ApplicationName>HiSeq Control Software</ApplicationName></Setup><RunID>{run_id}</RunID>"
        "<ScannerID>{instrument_id}</ScannerID><Barcode>{flowcell}</Barcode><ExperimentName>{experiment}"
        "</ExperimentName><Reads>{reads}</Reads>",
        rta_complete="{ended:%m/%d/%Y,%H:%M:%S.000},Illumina RTA 1.18.64\r\n",
    ),
}  # fmt: skip
